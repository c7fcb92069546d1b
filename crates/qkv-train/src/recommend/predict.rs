//! Recommending to everybody in a file of ratings, or to each line of items as it comes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use qkv_data::source::Line;
use qkv_data::{Ratings, Source, read_ratings};
use serde_json::json;

use super::histories::{Query, all_histories, strangers_told};
use super::recommender::{Recommendation, Recommender};
use crate::arrivals::Arrivals;
use crate::error::{Error, Result};
use crate::model::{FileKind, Predicted, Style, Watch};

/// Lines, or users, that are answered at once.
const CHUNK: usize = 1024;

impl Recommender {
    /// Reads from `source`, a path or `-`, who chose what, and writes to `out` what each may choose next, a line each: of a file
    /// of ratings for each user, and with the format `text` for each line of items with tabs between them.
    ///
    /// # Errors
    /// If the source cannot be read; of lines, what was read before is answered. If `out` refuses, unless its reader has gone,
    /// which ends the work in peace.
    pub fn predict_stream(
        &self,
        source: &str,
        kind: FileKind,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        let mut answers =
            Answers { recommender: self, style, out, done: Predicted::default(), unknown: 0, gone: false };
        if kind.format == Some("text") {
            answers.lines(source, kind, stop, watch)?;
        } else {
            super::check_format(kind.format)?;
            answers.users(source, kind, stop, watch)?;
        }
        let Answers { mut done, unknown, .. } = answers;
        if unknown > 0 {
            done.warnings.push(format!(
                "{source}: {unknown} choices are of items that never occur in training: they are left out"
            ));
        }
        Ok(done)
    }
}

/// What has been answered so far, and how.
struct Answers<'a> {
    recommender: &'a Recommender,
    style: Style,
    out: &'a mut dyn Write,
    done: Predicted,
    /// Choices of unknown items.
    unknown: usize,
    /// Whether nobody reads the answers any more.
    gone: bool,
}

impl Answers<'_> {
    fn users(&mut self, source: &str, kind: FileKind, stop: &AtomicBool, watch: Watch) -> Result<()> {
        let Some(ratings) = arrived(source, self.recommender.encoding(kind), stop)? else { return Ok(()) };
        let (queries, unknown) = all_histories(&self.recommender.known, &ratings);
        self.unknown = unknown;
        for chunk in queries.chunks(CHUNK) {
            if stop.load(Ordering::Relaxed) || self.gone {
                return Ok(());
            }
            let asked: Vec<(Option<&str>, &Query)> = chunk.iter().map(|(name, query)| (Some(*name), query)).collect();
            self.answer(&asked)?;
            watch(self.done.examples, self.done.tokens);
        }
        let strangers = queries.iter().filter(|(_, query)| query.user.is_none()).count();
        if self.recommender.has_users() && strangers > 0 {
            self.done.warnings.push(format!("{source}: {}", strangers_told(strangers, queries.len())));
        }
        Ok(())
    }

    fn lines(&mut self, source: &str, kind: FileKind, stop: &AtomicBool, watch: Watch) -> Result<()> {
        let (name, encoding) = (source.to_string(), self.recommender.encoding(kind));
        let arrivals = Arrivals::of(move || {
            let mut lines = Source::parse(&name).open(encoding.as_deref())?;
            Ok(std::iter::from_fn(move || lines.next_line().transpose()))
        });
        while !stop.load(Ordering::Relaxed) && !self.gone {
            let (lines, end) = arrivals.take(CHUNK, |_| 1, stop);
            let queries: Vec<Query> = lines.iter().map(|line| self.query(line)).collect();
            self.answer(&queries.iter().map(|query| (None, query)).collect::<Vec<_>>())?;
            watch(self.done.examples, self.done.tokens);
            match end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(e)) => return Err(e),
            }
        }
        if self.recommender.has_users() && self.done.examples > 0 {
            self.done.warnings.push(format!(
                "{source}: the model recommends by who chooses, which lines of items do not tell: what is popular is recommended to all; give ratings"
            ));
        }
        if self.done.examples == 0 && !stop.load(Ordering::Relaxed) {
            self.done.warnings.push(format!("{source}: there is no line in it; an empty line is one, too"));
        }
        Ok(())
    }

    /// The items of a line that are known.
    fn query(&mut self, line: &Line) -> Query {
        let mut history = Vec::new();
        for item in line.text().split('\t').map(str::trim).filter(|item| !item.is_empty()) {
            match self.recommender.known.items.id(item) {
                Some(id) => history.push(id),
                None => self.unknown += 1,
            }
        }
        Query { user: None, history }
    }

    /// Answers some, each with the user's name where there is one.
    fn answer(&mut self, asked: &[(Option<&str>, &Query)]) -> Result<()> {
        let queries: Vec<&Query> = asked.iter().map(|(_, query)| *query).collect();
        for ((user, _), items) in asked.iter().zip(self.recommender.recommend(&queries)) {
            written(write(*user, &items, self.style, self.out), &mut self.gone)?;
            if self.gone {
                return Ok(());
            }
            self.done.examples += 1;
            self.done.tokens += items.len();
        }
        written(self.out.flush(), &mut self.gone)
    }
}

/// All ratings of a source; `None` if the wait for them was ended.
pub(super) fn arrived(source: &str, encoding: Option<String>, stop: &AtomicBool) -> Result<Option<Ratings>> {
    let name = source.to_string();
    let arrivals = Arrivals::of(move || Ok(std::iter::once(read_ratings(name.as_str(), encoding.as_deref()))));
    match arrivals.take(1, |_| 1, stop) {
        (_, Some(Err(e))) => Err(e),
        (ratings, _) => Ok(ratings.into_iter().next()),
    }
}

/// Takes note of a reader that has gone, which is no error.
pub(super) fn written(result: io::Result<()>, gone: &mut bool) -> Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
            *gone = true;
            Ok(())
        }
        result => result.map_err(|e| Error::output(&e)),
    }
}

/// A name that keeps its line's fields apart.
pub(super) fn field(name: &str) -> String {
    name.replace('\t', " ")
}

fn write(user: Option<&str>, items: &[Recommendation], style: Style, out: &mut dyn Write) -> io::Result<()> {
    match style {
        Style::Same => {
            let names = user.into_iter().chain(items.iter().map(|one| one.item.as_str()));
            writeln!(out, "{}", names.map(field).collect::<Vec<_>>().join("\t"))
        }
        Style::Json => {
            let one = |one: &Recommendation| json!({ "item": one.item, "probability": one.probability });
            let items: Vec<_> = items.iter().map(one).collect();
            writeln!(out, "{}", json!({ "user": user, "items": items }))
        }
    }
}
