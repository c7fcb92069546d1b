//! Sequences in long form: a row for each step.

use std::collections::HashSet;

use super::SeriesOptions;
use super::build::{About, Builder};
use crate::error::{Error, Result, quote};
use crate::examples::{Refusal, Role};
use crate::listing::ListedPart;
use crate::numbers::single;
use crate::tables::{Records, USUAL_LABEL, part_of};

/// The places of the columns by their roles.
struct Places {
    series: Option<usize>,
    label: Option<usize>,
    split: Option<usize>,
    numbers: Vec<usize>,
}

/// The sequence whose steps are being read.
#[derive(Default)]
struct Open {
    name: String,
    part: Option<ListedPart>,
    line: usize,
    steps: usize,
}

pub(super) fn read(mut records: Records, options: &SeriesOptions, builder: &mut Builder) -> Result<()> {
    if records.names().is_empty() {
        // (an empty file)
        return Ok(());
    }
    let places = Places::choose(&records, options)?;
    if let Err(what) = builder.take_dim(places.numbers.len()) {
        let mend = "give a column of numbers beside those of sequence, label and part";
        return Err(Error::unusable(records.name(), what.replace("a vector", "a row"), mend));
    }
    builder.columns = places.numbers.iter().map(|&place| records.names()[place].clone()).collect();
    let mut seen = HashSet::new();
    let mut open: Option<Open> = None;
    while let Some(line) = records.next_record()? {
        let name = places.series.map_or("", |place| records.field(place));
        let refuse = |what: String, mend: &str| Err(records.refuse(line, Refusal::new(what, mend)));
        if places.series.is_some() && name.is_empty() {
            return refuse("the step is of no sequence".to_owned(), "write which one it is of");
        }
        let texts = places.label.into_iter().chain(places.split).chain(places.series);
        if let Some((place, kind)) = texts.into_iter().find_map(|place| Some((place, records.nested(place)?))) {
            let what = format!("there is {kind} in the column {}", quote(&records.names()[place]));
            return refuse(what, "write a text or a number there");
        }
        let split = places.split.map(|place| part_of(records.field(place)));
        let part = split.transpose().map_err(|refusal| records.refuse(line, refusal))?;
        if open.as_ref().is_none_or(|open| open.name != name) {
            if let Some(open) = open.take() {
                end(builder, &open, places.series.is_some());
                seen.insert(open.name);
            }
            if seen.contains(name) {
                let what = format!("the sequence {} goes on after others", quote(name));
                return refuse(what, "let the steps of a sequence follow each other");
            }
            open = Some(Open { name: name.to_owned(), part, line, steps: 0 });
        } else if let Some(open) = open.as_ref().filter(|open| open.part != part) {
            let what = format!("the step is of another part than the sequence that begins on line {}", open.line);
            return refuse(what, "let all steps of a sequence be of one part");
        }
        if let Some(open) = &mut open {
            open.steps += 1;
        }
        for &place in &places.numbers {
            let column = &records.names()[place];
            let number = match records.nested(place) {
                Some(kind) => Err(Refusal::new(
                    format!("there is {kind} in the column {}", quote(column)),
                    "write a number there, or name the column in data.ignore",
                )),
                None => single(records.field(place), column),
            };
            let number = number.map_err(|refusal| records.refuse(line, refusal))?;
            builder.values.push(number);
        }
        builder.push_step_label(places.label.map(|place| records.field(place)), line);
    }
    if let Some(open) = open {
        end(builder, &open, places.series.is_some());
    }
    Ok(())
}

fn end(builder: &mut Builder, open: &Open, named: bool) {
    let name = named.then_some(open.name.as_str());
    builder.end(&About { label: None, part: open.part, name, line: open.line }, open.steps);
}

impl Places {
    fn choose(records: &Records, options: &SeriesOptions) -> Result<Self> {
        let line = records.header_line();
        let role = |name, usual, column: &Option<String>| Role { name, usual, column: column.clone() };
        let label = role("label", &USUAL_LABEL, &options.label);
        let series = role("series", &["series", "sequence", "id"], &options.series);
        let split = role("split", &["split"], &options.split);
        let label_place = match records.place_of(&label, line) {
            // What is to be predicted is not there yet.
            Err(_) if !options.need_labels => None,
            found => found?,
        };
        let series = records.place_of(&series, line)?;
        let split = match records.place_of(&split, line) {
            Err(_) if options.plain => None,
            found => found?,
        };
        let names: Vec<&str> = records.names().iter().map(String::as_str).collect();
        let named = |given: &[String]| {
            let place = |name: &String| Role::named_among(name, &names).ok_or_else(|| records.lacks(name, line));
            given.iter().map(place).collect::<Result<Vec<usize>>>()
        };
        let mut numbers = named(&options.columns)?;
        if options.columns.is_empty() {
            let ignored = named(&options.ignore)?;
            let has_role =
                |place: &usize| [series, label_place, split].contains(&Some(*place)) || ignored.contains(place);
            numbers = (0..names.len()).filter(|place| !has_role(place)).collect();
        }
        if options.need_labels && label_place.is_none() {
            return Err(records.refuse(line, label.none_found(records.kind(), &names)));
        }
        let wanted = |place: Option<usize>| place.filter(|_| !options.plain);
        Ok(Self { series, label: wanted(label_place), split: wanted(split), numbers })
    }
}
