//! From ratings to what a model is trained on and asked, in its own ids.

use qkv_data::builtin::Part;
use qkv_data::{LeaveOneOut, Ratings};

use super::names::Known;

/// Whom something is to be recommended to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Who it is, if the model has a vector of them.
    pub(super) user: Option<u32>,
    /// What they chose, the last last; items that the model does not know are left out.
    pub(super) history: Vec<u32>,
}

/// A query whose answer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) query: Query,
    /// What was chosen next; `None` if the model does not know it.
    pub(super) next: Option<u32>,
}

/// The items that are held out of some ratings, each with what came before it.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldOut {
    pub(super) cases: Vec<Case>,
    /// Users of fewer than three items, of whom nothing is held out.
    short: usize,
    /// Choices in the histories of items that the model does not know.
    unknown: usize,
}

impl HeldOut {
    /// The held-out items of `part`, the dev or the test part, of histories that were split.
    pub(super) fn of(known: &Known, ratings: &Ratings, parts: &LeaveOneOut, part: Part) -> Self {
        let (items, users) = (known.items.ids_of(&ratings.items), known.users.ids_of(&ratings.users));
        let mut held_out = Self::default();
        for (user, train) in parts.train.iter().enumerate() {
            let (Some(dev), Some(test)) = (parts.dev[user], parts.test[user]) else {
                // A user without any rating is nobody who was left out.
                held_out.short += usize::from(!train.is_empty());
                continue;
            };
            let before = train.iter().copied().chain((part == Part::Test).then_some(dev));
            let ids: Vec<Option<u32>> = before.map(|item| items[item as usize]).collect();
            held_out.unknown += ids.iter().filter(|id| id.is_none()).count();
            let query = Query { user: users[user], history: ids.into_iter().flatten().collect() };
            let next = if part == Part::Test { test } else { dev };
            held_out.cases.push(Case { query, next: items[next as usize] });
        }
        held_out
    }

    /// What the user should know of the ratings in `source`, a line each. The model recommends what was `seen`, or not.
    pub(super) fn warnings(&self, source: &str, has_users: bool, seen: bool) -> Vec<String> {
        let all = self.cases.len();
        let count = |is_one: &dyn Fn(&Case) -> bool| self.cases.iter().filter(|case| is_one(case)).count();
        let unknown_next = count(&|case| case.next.is_none());
        let strangers = count(&|case| case.query.user.is_none());
        let again = count(&|case| case.next.is_some_and(|next| case.query.history.contains(&next)));
        let told = [
            (self.short, format!("{} users have fewer than three items: of them nothing is held out", self.short)),
            (
                self.unknown,
                format!("{} choices are of items that never occur in training: they are left out", self.unknown),
            ),
            (
                unknown_next,
                format!("{unknown_next} of {all} held-out items never occur in training: they count as missed"),
            ),
            (if has_users { strangers } else { 0 }, strangers_told(strangers, all)),
            (
                if seen { 0 } else { again },
                format!(
                    "{again} of {all} held-out items had been chosen before and count as missed, since such are not recommended: if people choose again, set decoding.seen=true"
                ),
            ),
        ];
        told.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| format!("{source}: {text}")).collect()
    }
}

/// What is told of users whom a model with a vector for each does not know.
pub(super) fn strangers_told(strangers: usize, all: usize) -> String {
    format!("{strangers} of {all} users never occur in training: what is popular is recommended to them")
}

/// The whole history of each user of `ratings` who has one, with the user's name, and how many choices were left out for
/// being of unknown items.
pub(super) fn all_histories<'a>(known: &Known, ratings: &'a Ratings) -> (Vec<(&'a str, Query)>, usize) {
    let items = known.items.ids_of(&ratings.items);
    let mut unknown = 0;
    let histories = ratings.histories().into_iter().zip(&ratings.users).filter(|(history, _)| !history.is_empty());
    let queries = histories.map(|(history, name)| {
        let chosen = history.len();
        let history: Vec<u32> = history.into_iter().filter_map(|item| items[item as usize]).collect();
        unknown += chosen - history.len();
        (name.as_str(), Query { user: known.users.id(name), history })
    });
    (queries.collect(), unknown)
}

/// What is trained on: histories end to end, each choice with its user.
#[derive(Clone, Debug, Default)]
pub(super) struct Choices {
    /// The user of each choice; an index into the model's users where it has any.
    pub(super) users: Vec<u32>,
    pub(super) items: Vec<u32>,
    /// Where each history ends.
    pub(super) ends: Vec<usize>,
}

impl Choices {
    /// The training part of histories that were split, in the model's ids.
    pub(super) fn of(known: &Known, ratings: &Ratings, parts: &LeaveOneOut) -> Self {
        let items = known.items.ids_of(&ratings.items);
        let users = known.users.ids_of(&ratings.users);
        let mut choices = Self::default();
        for (user, train) in parts.train.iter().enumerate() {
            let before = choices.items.len();
            choices.items.extend(train.iter().filter_map(|&item| items[item as usize]));
            let count = choices.items.len() - before;
            if count > 0 {
                let user = users[user].unwrap_or(user as u32);
                choices.users.extend(std::iter::repeat_n(user, count));
                choices.ends.push(choices.items.len());
            }
        }
        choices
    }

    /// The items of one history.
    pub(super) fn history(&self, number: usize) -> &[u32] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.items[start..self.ends[number]]
    }

    /// How often each of `count` items was chosen.
    pub(super) fn counts(&self, count: usize) -> Vec<usize> {
        let mut counts = vec![0; count];
        self.items.iter().for_each(|&item| counts[item as usize] += 1);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::*;
    use qkv_data::{Rating, leave_one_out};

    /// Each history by the letters of its items.
    fn ratings(histories: &[&str]) -> Ratings {
        let mut ratings = Ratings { items: ('a'..='f').map(String::from).collect(), ..Ratings::default() };
        for (user, history) in histories.iter().enumerate() {
            ratings.users.push(format!("user {user}"));
            ratings.ratings.extend(history.bytes().map(|item| Rating {
                user: user as u32,
                item: u32::from(item - b'a'),
                rating: 1.0,
                time: 0.0,
            }));
        }
        ratings
    }

    fn known(ratings: &Ratings, items: &[usize], users: &[usize]) -> Known {
        Known {
            items: Names::chosen(&ratings.items, |place| items.contains(&place)),
            users: Names::chosen(&ratings.users, |place| users.contains(&place)),
        }
    }

    #[test]
    fn the_last_two_are_held_out_and_what_is_unknown_is_told() {
        let ratings = ratings(&["abcde", "ab", "fca", "aba"]);
        let parts = leave_one_out(&ratings.histories());
        // `d` and `f` are unknown: what is left are a, b, c and e, with the ids 0 to 3.
        let known = known(&ratings, &[0, 1, 2, 4], &[0, 2]);
        let test = HeldOut::of(&known, &ratings, &parts, Part::Test);
        let case = |user, history: &[u32], next| Case { query: Query { user, history: history.to_vec() }, next };
        let wanted = [case(Some(0), &[0, 1, 2], Some(3)), case(Some(1), &[2], Some(0)), case(None, &[0, 1], Some(0))];
        assert_eq!(test.cases, wanted);
        let told = test.warnings("file", true, false);
        assert_eq!(told.len(), 4, "{told:?}");
        for (line, part) in told.iter().zip(["1 users have", "2 choices", "1 of 3 users", "1 of 3 held-out"]) {
            assert!(line.starts_with("file: ") && line.contains(part), "{line}");
        }
        assert_eq!(test.warnings("file", false, true).len(), 2);
        let dev = HeldOut::of(&known, &ratings, &parts, Part::Dev);
        assert_eq!(dev.cases[0], case(Some(0), &[0, 1, 2], None));
        assert!(dev.warnings("file", true, false).iter().any(|line| line.contains("1 of 3 held-out items never")));
    }

    #[test]
    fn choices_are_those_of_the_training_part_that_are_known() {
        let ratings = ratings(&["abcde", "ffff", "bc"]);
        let parts = leave_one_out(&ratings.histories());
        let choices = Choices::of(&known(&ratings, &[0, 1, 2], &[0, 2]), &ratings, &parts);
        assert_eq!((choices.items.as_slice(), choices.users.as_slice()), (&[0, 1, 2, 1, 2][..], &[0, 0, 0, 1, 1][..]));
        assert_eq!((choices.history(0), choices.history(1)), (&[0, 1, 2][..], &[1, 2][..]));
        assert_eq!(choices.counts(4), [1, 2, 2, 0]);
    }

    #[test]
    fn everybody_who_chose_has_a_history() {
        let mut ratings = ratings(&["ab", "fa"]);
        ratings.users.push("nobody".into());
        let known = known(&ratings, &[0, 1], &[1]);
        let (queries, unknown) = all_histories(&known, &ratings);
        assert_eq!(unknown, 1);
        assert_eq!(queries[0], ("user 0", Query { user: None, history: vec![0, 1] }));
        assert_eq!(queries[1], ("user 1", Query { user: Some(0), history: vec![0] }));
        assert_eq!(queries.len(), 2);
    }
}
