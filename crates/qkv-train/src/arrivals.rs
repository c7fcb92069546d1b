//! What comes over a stream, taken as it comes: much at once where much is there, at once where there is little.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use crate::error::{Error, Result};

/// Items that may wait to be taken.
const QUEUE: usize = 4096;
/// How often a wait for input looks whether it is to end.
const BREATH: Duration = Duration::from_millis(50);

/// Items that a thread of their own reads.
pub(crate) struct Arrivals<T>(Receiver<qkv_data::Result<T>>);

impl<T: Send + 'static> Arrivals<T> {
    /// Reads what `open` opens until its end or its first error. The reader may wait for input forever; it ends with the
    /// program, or when nobody takes its items.
    pub(crate) fn of<I>(open: impl FnOnce() -> qkv_data::Result<I> + Send + 'static) -> Self
    where
        I: Iterator<Item = qkv_data::Result<T>>,
    {
        let (send, receive) = sync_channel(QUEUE);
        std::thread::spawn(move || match open() {
            Ok(mut items) => {
                while let Some(item) = items.next()
                    && send.send(item).is_ok()
                {}
            }
            Err(e) => drop(send.send(Err(e))),
        });
        Self(receive)
    }

    /// Waits for an item, then takes what else is there, up to `limit` of `size`. Says whether that was all, and why; being
    /// told to stop ends the wait.
    pub(crate) fn take(
        &self,
        limit: usize,
        size: impl Fn(&T) -> usize,
        stop: &AtomicBool,
    ) -> (Vec<T>, Option<Result<()>>) {
        let (mut chunk, mut taken) = (Vec::new(), 0);
        let mut next = loop {
            match self.0.recv_timeout(BREATH) {
                Ok(item) => break Some(item),
                Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
                Err(_) => break None,
            }
        };
        loop {
            match next {
                None => return (chunk, Some(Ok(()))),
                Some(Err(e)) => return (chunk, Some(Err(Error::from(e)))),
                Some(Ok(item)) => {
                    taken += size(&item);
                    chunk.push(item);
                }
            }
            if taken >= limit {
                return (chunk, None);
            }
            next = match self.0.try_recv() {
                Ok(item) => Some(item),
                Err(TryRecvError::Empty) => return (chunk, None),
                Err(TryRecvError::Disconnected) => None,
            };
        }
    }
}
