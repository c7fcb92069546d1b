//! Predicting from a stream: as fast as a batch where there is much, at once where there is little, in bounded memory.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use qkv_data::{Column, Sentence, stream, write_labelled};

use super::{FileKind, Tagger};
use crate::error::{Error, Result};

/// How predictions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As the input came: CoNLL-U with its column filled, columns with the last one filled, text as `word_TAG`.
    Same,
    /// One JSON object a line.
    Json,
}

/// How much was predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Predicted {
    /// Sentences.
    pub sentences: usize,
    /// Words.
    pub words: usize,
    /// Words that came with a label, which the prediction took the place of.
    pub replaced: usize,
    /// Those of them whose label is one that the model gives.
    pub replaced_known: usize,
}

/// Words taken into memory at once, in batches.
const CHUNK_BATCHES: usize = 8;
/// Sentences that may wait to be taken.
const QUEUE: usize = 4096;
/// How often a wait for input looks whether it is to end.
const BREATH: Duration = Duration::from_millis(50);

impl Tagger {
    /// Reads sentences from `source`, a path or `-`, and writes them with their labels to `out`, in their order.
    ///
    /// Whatever has arrived is predicted and written at once, so a slow writer at the other end of a pipe is answered line
    /// by line. `progress` is called after each chunk.
    ///
    /// # Errors
    /// If the source cannot be read; what was read before is written. If `out` refuses, unless its reader has gone, which
    /// ends the work in peace.
    pub fn predict_stream(
        &self,
        source: &str,
        kind: FileKind,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Predicted),
    ) -> Result<Predicted> {
        let (source, options, column) = (source.to_string(), self.prediction_options(kind)?, self.column()?);
        let (send, receive) = sync_channel(QUEUE);
        // The reader may wait for input forever; it ends with the program, or when nobody takes its sentences.
        std::thread::spawn(move || {
            let mut sentences = match stream(&source, &options) {
                Ok(sentences) => sentences,
                Err(e) => return drop(send.send(Err(e))),
            };
            while let Some(sentence) = sentences.next()
                && send.send(sentence).is_ok()
            {}
        });
        let limit = CHUNK_BATCHES * self.recipe().decoding.batch_tokens;
        let mut done = Predicted::default();
        while !stop.load(Ordering::Relaxed) {
            let (chunk, end) = take(&receive, limit, stop);
            done.sentences += chunk.len();
            done.words += chunk.iter().map(|sentence| sentence.words.len()).sum::<usize>();
            for label in chunk.iter().filter_map(|sentence| sentence.labels.as_ref()).flatten() {
                done.replaced += 1;
                done.replaced_known += usize::from(self.gives(label));
            }
            match self.write(&chunk, column, style, out) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(done),
                Err(e) => return Err(Error::output(&e)),
            }
            progress(done);
            match end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(e)) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    fn write(&self, sentences: &[Sentence], column: Column, style: Style, out: &mut dyn Write) -> io::Result<()> {
        for (sentence, labels) in sentences.iter().zip(self.predict(sentences)) {
            match style {
                Style::Same => write_labelled(sentence, column, &labels, out).map_err(|e| match e {
                    qkv_data::Error::Io { source, .. } => source,
                    other => io::Error::other(other),
                })?,
                Style::Json => {
                    let line = serde_json::json!({ "words": sentence.words, "labels": labels });
                    writeln!(out, "{line}")?;
                }
            }
        }
        out.flush()
    }
}

/// Waits for a sentence, then takes what else is there, up to `limit` words. Says whether that was all, and why; being
/// told to stop ends the wait.
fn take(
    receive: &Receiver<qkv_data::Result<Sentence>>,
    limit: usize,
    stop: &AtomicBool,
) -> (Vec<Sentence>, Option<qkv_data::Result<()>>) {
    let (mut chunk, mut words) = (Vec::new(), 0);
    let mut next = loop {
        match receive.recv_timeout(BREATH) {
            Ok(sentence) => break Some(sentence),
            Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
            Err(_) => break None,
        }
    };
    loop {
        match next {
            None => return (chunk, Some(Ok(()))),
            Some(Err(e)) => return (chunk, Some(Err(e))),
            Some(Ok(sentence)) => {
                words += sentence.words.len();
                chunk.push(sentence);
            }
        }
        if words >= limit {
            return (chunk, None);
        }
        next = match receive.try_recv() {
            Ok(sentence) => Some(sentence),
            Err(TryRecvError::Empty) => return (chunk, None),
            Err(TryRecvError::Disconnected) => None,
        };
    }
}
