//! Who saw or bought what, when, and liked it how well: what recommendation learns from.
//!
//! Here belong reading such lines, what each user did in order of time, and the parts that a recommender is trained and
//! judged by. How it is judged is the metric's affair.
//!
//! - A line is `user`, `item`, `rating`, `time`, parted by tabs, by `::` or by commas: the first of these that the first
//!   line has. Between commas a field may stand in double quotes.
//! - Without a rating all ratings are 1, without a time the order of the lines is the time: two fields are user and item,
//!   three user, item and rating.
//! - A first line that names two or more of the columns (`userId`, `movie_id`, `timestamp` and the like) is a header.
//!   Then columns may stand in any order, and others are ignored.
//! - Blank lines are ignored. Every other line has as many fields as the first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use qkv::random::Key;

use crate::builtin::{self, Part};
use crate::error::{Error, Result, quote};
use crate::source::{Lines, Source};

/// Keeps the draws that split ratings apart from all others under the same seed.
const SPLIT: u64 = 0x5241_5449_4e47;

/// A user's opinion of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rating {
    /// Whose it is, an index into [`Ratings::users`].
    pub user: u32,
    /// What it is about, an index into [`Ratings::items`].
    pub item: u32,
    /// How good it is found, in the file's units; 1 where the file has no ratings.
    pub rating: f32,
    /// When, in the file's units; the rating's place in the file, from 0, where the file has no times.
    pub time: f64,
}

/// Ratings and the names in them.
///
/// Of a file, users and items have ids in the order of their first occurrence. `builtin:films` has an id for each person
/// and film of its world, in that world's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ratings {
    /// The users' names by id.
    pub users: Vec<String>,
    /// The items' names by id.
    pub items: Vec<String>,
    /// The ratings in the order of the lines. A user may have rated an item more than once.
    pub ratings: Vec<Rating>,
}

impl Ratings {
    /// The items of each user by time; those of one time in the order of the lines. One history for each of `users`.
    #[must_use]
    pub fn histories(&self) -> Vec<Vec<u32>> {
        let mut timed: Vec<Vec<(f64, u32)>> = vec![Vec::new(); self.users.len()];
        for rating in &self.ratings {
            timed[rating.user as usize].push((rating.time, rating.item));
        }
        timed
            .into_iter()
            .map(|mut items| {
                items.sort_by(|(one, _), (other, _)| one.total_cmp(other));
                items.into_iter().map(|(_, item)| item).collect()
            })
            .collect()
    }
}

/// Histories with the last two items held out, as sequential recommenders are commonly judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveOneOut {
    /// What each user is trained on: all but the last two items, or all of fewer than three.
    pub train: Vec<Vec<u32>>,
    /// The last item but one of each user; none of users with fewer than three.
    pub dev: Vec<Option<u32>>,
    /// The last item of each user, to be predicted from all before it, the dev item included; none of users with fewer
    /// than three.
    pub test: Vec<Option<u32>>,
}

/// Holds out the last two items of each history. Users keep their ids.
#[must_use]
pub fn leave_one_out(histories: &[Vec<u32>]) -> LeaveOneOut {
    let mut parts = LeaveOneOut::default();
    for history in histories {
        let (train, held_out) = match history.as_slice() {
            [train @ .., dev, test] if !train.is_empty() => (train, Some((*dev, *test))),
            all => (all, None),
        };
        parts.train.push(train.to_vec());
        parts.dev.push(held_out.map(|(dev, _)| dev));
        parts.test.push(held_out.map(|(_, test)| test));
    }
    parts
}

/// The part that the rating at `place` of [`Ratings::ratings`] falls into when ratings are to be predicted: of each ten
/// about eight to train on, one for dev, one for test. A function of its arguments alone, so that more ratings at the end
/// of a file move none of those before them.
#[must_use]
pub fn part_of_rating(place: usize, seed: u64) -> Part {
    let draw = u64::from(Key::new(seed).fold(SPLIT).bits(place as u64));
    // Which tenth of the range of 32 bits.
    match (10 * draw) >> 32 {
        0..8 => Part::Train,
        8 => Part::Dev,
        _ => Part::Test,
    }
}

/// Reads all ratings of a source, in `encoding` (UTF-8 if `None`). What a line holds is said at the [module](self).
///
/// # Errors
///
/// What cannot be opened or decoded, `builtin:` data that is no ratings, a header without users or items, a line with too
/// few or too many fields, without a user or an item, or with a rating or time that is no finite number, and a file
/// without a single rating.
pub fn read_ratings(source: impl Into<Source>, encoding: Option<&str>) -> Result<Ratings> {
    match source.into() {
        Source::Builtin(name) => builtin_ratings(&name),
        source => read_lines(source.open(encoding)?),
    }
}

fn builtin_ratings(name: &str) -> Result<Ratings> {
    match name {
        "films" => Ok(builtin::films().ratings),
        _ => match builtin::held(name) {
            Some(held) => {
                let mend = "name builtin:films, or a file of `user<TAB>item<TAB>rating<TAB>time` lines";
                Err(Error::unusable(&format!("builtin:{name}"), format!("holds {held}, not ratings"), mend))
            }
            None => Err(Error::unknown_name("builtin", name, builtin::RATINGS.iter().copied())),
        },
    }
}

fn read_lines(mut lines: Lines) -> Result<Ratings> {
    let (mut users, mut items) = (Names::default(), Names::default());
    let mut ratings = Vec::new();
    let mut layout = None;
    while let Some(line) = lines.next_line()? {
        if line.is_blank() {
            continue;
        }
        let at = At { path: lines.name(), line: line.number };
        let layout: &Layout = match &mut layout {
            Some(layout) => layout,
            None => {
                let (first, is_header) = Layout::of(line.text(), at)?;
                let first = layout.insert(first);
                if is_header {
                    continue;
                }
                first
            }
        };
        let fields = layout.fields(line.text(), at)?;
        let user = name(&fields[layout.user], "user", at)?;
        let item = name(&fields[layout.item], "item", at)?;
        let rating = layout.rating.map_or(Ok(1.0), |column| number(&fields[column], "rating", at))?;
        let time = layout.time.map_or(Ok(ratings.len() as f64), |column| number(&fields[column], "time", at))?;
        ratings.push(Rating { user: users.id(user), item: items.id(item), rating, time });
    }
    if ratings.is_empty() {
        let mend = "is it the right file? each line is a user, an item, and perhaps a rating and a time";
        return Err(Error::unusable(lines.name(), "there is no rating in it", mend));
    }
    Ok(Ratings { users: users.names, items: items.names, ratings })
}

/// Names and their ids, in the order of their first occurrence.
#[derive(Default)]
struct Names {
    ids: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    fn id(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        // So many names as 32 bits cannot count would not fit into the memory of a machine.
        let id = self.names.len() as u32;
        self.ids.insert(name.to_owned(), id);
        self.names.push(name.to_owned());
        id
    }
}

/// A line, for messages.
#[derive(Clone, Copy)]
struct At<'lines> {
    path: &'lines str,
    line: usize,
}

impl At<'_> {
    fn malformed(self, what: impl fmt::Display, mend: impl fmt::Display) -> Error {
        Error::malformed(self.path, self.line, what, mend)
    }
}

/// What parts the fields of a line.
#[derive(Clone, Copy)]
enum Separator {
    Tab,
    Colons,
    Comma,
}

impl Separator {
    fn text(self) -> &'static str {
        match self {
            Self::Tab => "\t",
            Self::Colons => "::",
            Self::Comma => ",",
        }
    }

    /// The fields of a line, without spaces around them.
    fn split<'line>(self, text: &'line str, at: At) -> Result<Vec<Cow<'line, str>>> {
        match self {
            Self::Comma if text.contains('"') => split_quoted(text, at),
            _ => Ok(text.split(self.text()).map(|field| Cow::Borrowed(field.trim())).collect()),
        }
    }
}

/// The fields between commas, of which some stand in double quotes; within those, two quotes are one, and a comma is
/// no separator.
fn split_quoted<'line>(text: &'line str, at: At) -> Result<Vec<Cow<'line, str>>> {
    let mut fields = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let Some(quoted) = text.trim_start().strip_prefix('"') else {
            let (field, after) = text.split_once(',').map_or((text, None), |(field, after)| (field, Some(after)));
            fields.push(Cow::Borrowed(field.trim()));
            rest = after;
            continue;
        };
        // What doubled quotes leave between them are the pieces of the field; the first quote alone ends it.
        let mut end = 0;
        let closed = loop {
            match quoted[end..].find('"') {
                Some(quote) if quoted[end + quote + 1..].starts_with('"') => end += quote + 2,
                Some(quote) => break Some(end + quote),
                None => break None,
            }
        };
        let mend = "close each quote before the comma, and write a quote within quotes twice";
        let end = closed.ok_or_else(|| at.malformed("a field opens a quote that nothing closes", mend))?;
        fields.push(Cow::Owned(quoted[..end].replace("\"\"", "\"").trim().to_owned()));
        let after = quoted[end + 1..].trim_start();
        rest = match after.strip_prefix(',') {
            None if after.is_empty() => None,
            None => return Err(at.malformed("a field goes on behind its closing quote", mend)),
            after => after,
        };
    }
    Ok(fields)
}

/// The columns and the names that headers have for them, in lower case without `_`, `-` and spaces.
const COLUMNS: [(&str, &[&str]); 4] = [
    ("user", &["user", "userid", "uid", "customer", "customerid"]),
    ("item", &["item", "itemid", "movie", "movieid", "film", "filmid", "product", "productid", "iid"]),
    ("rating", &["rating", "score", "stars"]),
    ("time", &["time", "timestamp", "unixtime"]),
];

/// What the first line settles for all others.
struct Layout {
    separator: Separator,
    /// How many fields a line has.
    count: usize,
    /// The line that settled it.
    line: usize,
    user: usize,
    item: usize,
    rating: Option<usize>,
    time: Option<usize>,
}

impl Layout {
    /// The layout that a file's first line asks for, and whether that line is a header.
    fn of(first: &str, at: At) -> Result<(Self, bool)> {
        let separators = [Separator::Tab, Separator::Colons, Separator::Comma];
        let found = separators.into_iter().find(|separator| first.contains(separator.text()));
        let mend =
            "write user, item, rating and time with tabs, `::` or commas between them; rating and time may be left out";
        let separator = found.ok_or_else(|| at.malformed(format!("{} is one field alone", quote(first)), mend))?;
        let fields = separator.split(first, at)?;
        if let Some(layout) = Self::named(separator, &fields, at)? {
            return Ok((layout, true));
        }
        let count = fields.len();
        if !(2..=4).contains(&count) {
            let mend = "if there are others than user, item, rating and time, name the columns in a header line";
            return Err(at.malformed(format!("expected 2 to 4 fields, found {count}"), mend));
        }
        let columns = Self {
            separator,
            count,
            line: at.line,
            user: 0,
            item: 1,
            rating: (count > 2).then_some(2),
            time: (count > 3).then_some(3),
        };
        Ok((columns, false))
    }

    /// The layout that a header asks for, or `None` if `fields` are none: if fewer than two of them are names of columns.
    fn named(separator: Separator, fields: &[Cow<'_, str>], at: At) -> Result<Option<Self>> {
        let mut places: [Option<usize>; 4] = [None; 4];
        let mut twice = None;
        for (place, field) in fields.iter().enumerate() {
            let plain: String = field.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect();
            let plain = plain.to_lowercase();
            if let Some(column) = COLUMNS.iter().position(|(_, names)| names.contains(&plain.as_str())) {
                twice = twice.or(places[column].replace(place).map(|_| COLUMNS[column].0));
            }
        }
        if places.iter().flatten().count() + usize::from(twice.is_some()) < 2 {
            return Ok(None);
        }
        let mend = "name one column `user` and one `item`; `rating` and `time` may be left out";
        if let Some(name) = twice {
            return Err(at.malformed(format!("the header names two columns of the {name}"), mend));
        }
        let [Some(user), Some(item), rating, time] = places else {
            let missing = if places[0].is_none() { "user" } else { "item" };
            return Err(at.malformed(format!("the header names no column of the {missing}"), mend));
        };
        Ok(Some(Self { separator, count: fields.len(), line: at.line, user, item, rating, time }))
    }

    /// The fields of a line, as many as the first line has.
    fn fields<'line>(&self, text: &'line str, at: At) -> Result<Vec<Cow<'line, str>>> {
        let fields = self.separator.split(text, at)?;
        if fields.len() == self.count {
            return Ok(fields);
        }
        let parted = match self.separator {
            Separator::Tab => "tabs",
            Separator::Colons => "`::`",
            Separator::Comma => "commas",
        };
        let (count, found, line) = (self.count, fields.len(), self.line);
        let what = format!("expected {count} fields with {parted} between them as on line {line}, found {found}");
        Err(at.malformed(what, "give every line as many; is the file cut short?"))
    }
}

/// The field as a name.
fn name<'fields>(field: &'fields str, kind: &str, at: At) -> Result<&'fields str> {
    match field.is_empty() {
        false => Ok(field),
        true => {
            Err(at.malformed(format!("the {kind} is empty"), format!("write a name or number of the {kind} there")))
        }
    }
}

/// The field as a finite number.
fn number<T: FromStr + Copy + Into<f64>>(field: &str, kind: &str, at: At) -> Result<T> {
    field.parse().ok().filter(|&number: &T| number.into().is_finite()).ok_or_else(|| {
        let mend =
            "lines are user, item, rating, time; name the columns in a header line if they stand in another order";
        at.malformed(format!("the {kind} {} is not a finite number", quote(field)), mend)
    })
}
