//! Ratings through the public door: the files that are fine, those that must be refused in one line, and the splits.

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use qkv_data::builtin::{self, Part};
use qkv_data::{
    LeaveOneOut, Rating, Ratings, ReadOptions, Result, leave_one_out, part_of_rating, read_ratings, read_tagged,
    read_text,
};

fn read_bytes(bytes: &[u8], encoding: Option<&str>) -> Result<Ratings> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("u.data");
    std::fs::write(&path, bytes).unwrap();
    read_ratings(&path, encoding)
}

fn read(text: &str) -> Result<Ratings> {
    read_bytes(text.as_bytes(), None)
}

/// Ratings of the users and items `names`, each rating as (user, item, rating, time).
fn ratings(users: &[&str], items: &[&str], rows: &[(u32, u32, f32, f64)]) -> Ratings {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let rating = |&(user, item, rating, time)| Rating { user, item, rating, time };
    Ratings { users: names(users), items: names(items), ratings: rows.iter().map(rating).collect() }
}

#[test]
fn every_way_to_write_them_is_read_alike() {
    let expected = ratings(&["9", "4"], &["b", "a"], &[(0, 0, 3.5, 70.0), (1, 0, 1.0, 60.0), (0, 1, 5.0, 50.0)]);
    for text in [
        "9\tb\t3.5\t70\n4\tb\t1\t60\n9\ta\t5\t50\n",
        "\u{feff}9\tb\t3.5\t70\r\n\r\n4\tb\t1\t60\r\n \t\r\n9\ta\t5\t50",
        "9::b::3.5::70\n4::b::1::60\n9::a::5::50\n",
        "9,b,3.5,70\n4,b,1,60\n9,a,5,50\n",
        " 9 , b , 3.5 , 70 \n4,\"b\",\"1\",60\n\"9\", \"a\" ,5,50\n",
        "userId,movieId,rating,timestamp\n9,b,3.5,70\n4,b,1,60\n9,a,5,50\n",
        "\nTimestamp\tgenre\tITEM_ID\tuser-id\tRating\n70\tx\tb\t9\t3.5\n60\t\tb\t4\t1\n50\tx\ta\t9\t5\n",
    ] {
        assert_eq!(read(text).unwrap(), expected, "{text:?}");
    }
}

#[test]
fn without_ratings_all_are_one_and_without_times_the_lines_are_the_time() {
    let expected = ratings(&["u", "v"], &["x", "y"], &[(0, 0, 1.0, 0.0), (1, 1, 1.0, 1.0), (0, 1, 1.0, 2.0)]);
    assert_eq!(read("u\tx\nv\ty\n\nu\ty\n").unwrap(), expected);
    assert_eq!(read("item,user\nx,u\ny,v\ny,u\n").unwrap(), expected);
    let rated = read("u\tx\t4\nv\ty\t2\n").unwrap();
    assert_eq!(rated.ratings[1], Rating { user: 1, item: 1, rating: 2.0, time: 1.0 });
    let timed = read("user,item,time\nu,x,8.5\n").unwrap();
    assert_eq!(timed.ratings, [Rating { user: 0, item: 0, rating: 1.0, time: 8.5 }]);
}

#[test]
fn a_tab_goes_before_colons_and_colons_before_a_comma() {
    assert_eq!(read("u\tSpace:: One, Two\t4\n").unwrap().items, ["Space:: One, Two"]);
    assert_eq!(read("u::One, Two::4\n").unwrap().items, ["One, Two"]);
}

#[test]
fn quoted_fields_hold_commas_and_quotes() {
    let read = read("u,\"One, \"\"Two\"\"\",4\nu,\"\"\"\",3\nu,say \"hi\",2\nu,\"a\",\"2\"\n").unwrap();
    assert_eq!(read.items, ["One, \"Two\"", "\"", "say \"hi\"", "a"]);
    assert_eq!(read.ratings[3].rating, 2.0);
}

#[test]
fn encodings_are_named_as_elsewhere() {
    assert_eq!(read_bytes(b"u\tcaf\xe9\n", Some("latin-1")).unwrap().items, ["café"]);
    let message = read_bytes(b"u\tx\nu\tcaf\xe9\n", None).unwrap_err().to_string();
    assert!(message.contains("u.data:2: byte 6 of the line is not UTF-8"), "{message}");
}

#[test]
fn what_is_malformed_is_named_by_its_line() {
    for (text, expected) in [
        ("word\n", "u.data:1: \"word\" is one field alone; write user, item, rating and time with tabs"),
        (
            "u\tx\t4\nu\ty\n",
            "u.data:2: expected 3 fields with tabs between them as on line 1, found 2; give every line",
        ),
        ("u::x::4\nu::x::4::5\n", "u.data:2: expected 3 fields with `::` between them as on line 1, found 4"),
        ("user,item,rating\n\nu,x\n", "u.data:3: expected 3 fields with commas between them as on line 1, found 2"),
        ("u,x,4,5,6\n", "u.data:1: expected 2 to 4 fields, found 5; if there are others than user, item, rating"),
        ("u\tx\t4\nu\ty\tgood\n", "u.data:2: the rating \"good\" is not a finite number; lines are user, item, rating"),
        ("u\tx\t\n", "u.data:1: the rating \"\" is not a finite number"),
        ("u\tx\tNaN\n", "u.data:1: the rating \"NaN\" is not a finite number"),
        ("u\tx\t1e39\n", "u.data:1: the rating \"1e39\" is not a finite number"),
        ("u\tx\t4\tnoon\n", "u.data:1: the time \"noon\" is not a finite number"),
        ("u\tx\t4\tinf\n", "u.data:1: the time \"inf\" is not a finite number"),
        ("u\tx\t4\n\tx\t4\n", "u.data:2: the user is empty; write a name or number of the user there"),
        ("u,x,4\nu, ,4\n", "u.data:2: the item is empty"),
        (
            "user,rating\nu,4\n",
            "u.data:1: the header names no column of the item; name one column `user` and one `item`",
        ),
        ("movie_id,rating\nx,4\n", "u.data:1: the header names no column of the user"),
        ("user,movie,item\nu,x,y\n", "u.data:1: the header names two columns of the item"),
        ("user,user\nu,v\n", "u.data:1: the header names two columns of the user"),
        ("u,\"x,4\n", "u.data:1: a field opens a quote that nothing closes; close each quote before the comma"),
        ("u,\"x\"y,4\n", "u.data:1: a field goes on behind its closing quote"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text:?}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn a_source_without_a_rating_is_an_error() {
    for text in ["", "\u{feff}", "\n \n", "user,item\n", "user,item\n\n"] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains("u.data: there is no rating in it; is it the right file?"), "{text:?}: {message}");
    }
    let message = read_ratings("no/such/file", None).unwrap_err().to_string();
    assert!(message.contains("no/such/file: ") && message.contains("check the path"), "{message}");
}

#[test]
fn builtin_ratings_and_builtin_sentences_are_not_taken_for_each_other() {
    assert_eq!(read_ratings("builtin:films", None).unwrap(), builtin::films().ratings);
    let message = read_ratings("builtin:homographs", None).unwrap_err().to_string();
    assert!(message.starts_with("builtin:homographs: holds tagged sentences, not ratings; name builtin:films"));
    let message = read_ratings("builtin:film", None).unwrap_err().to_string();
    assert_eq!(message, "unknown builtin \"film\"; did you mean films? known are films");
    let message = read_tagged("builtin:films", &ReadOptions::default()).unwrap_err().to_string();
    assert_eq!(
        message,
        "builtin:films: holds ratings, not tagged sentences; name a file, or one of builtin:homographs"
    );
    let message = builtin::open("builtin:films", Part::Train).unwrap_err().to_string();
    assert_eq!(message, "builtin:films: holds ratings, not tagged sentences; known: homographs");
    assert!(read_text("builtin:films", None).is_err());
}

#[test]
fn histories_are_in_the_order_of_time_and_ties_in_that_of_the_lines() {
    let read = read("u\tc\t1\t5\nv\ta\t1\t9\nu\tb\t1\t-2\nu\td\t1\t5\nu\tc\t2\t6\n").unwrap();
    assert_eq!(read.items, ["c", "a", "b", "d"]);
    assert_eq!(read.histories(), [vec![2, 0, 3, 0], vec![1]], "a film may be seen twice");
    let unseen = Ratings { users: vec!["nobody".to_owned()], ..Ratings::default() };
    assert_eq!(unseen.histories(), [vec![0_u32; 0]]);
}

#[test]
fn the_last_two_of_three_or_more_are_held_out() {
    let parts = leave_one_out(&[vec![7, 8, 9, 7], vec![1, 2, 3], vec![1, 2], vec![5], vec![]]);
    let expected = LeaveOneOut {
        train: vec![vec![7, 8], vec![1], vec![1, 2], vec![5], vec![]],
        dev: vec![Some(9), Some(2), None, None, None],
        test: vec![Some(7), Some(3), None, None, None],
    };
    assert_eq!(parts, expected);
}

#[test]
fn ratings_fall_into_parts_by_seed_and_place_alone() {
    let parts = |seed| (0..20_000).map(|place| part_of_rating(place, seed)).collect::<Vec<_>>();
    let share = |parts: &[Part], part| parts.iter().filter(|&&p| p == part).count() as f64 / parts.len() as f64;
    let one = parts(1);
    // Three standard deviations of 20,000 draws are 0.0085 and 0.0064.
    assert!((share(&one, Part::Train) - 0.8).abs() < 0.0085);
    assert!((share(&one, Part::Dev) - 0.1).abs() < 0.0064);
    assert!((share(&one, Part::Test) - 0.1).abs() < 0.0064);
    assert_eq!(one, parts(1));
    let same = one.iter().zip(parts(2)).filter(|(one, two)| **one == *two).count() as f64 / one.len() as f64;
    assert!((same - 0.66).abs() < 0.02, "other seeds split independently: {same}");
    // A split must not change from one version to the next: a model would be tested on what it was trained on.
    let test: Vec<usize> = (0..60).filter(|&place| part_of_rating(place, 7) == Part::Test).collect();
    assert_eq!(test, [12, 23, 29, 34, 35, 45, 48, 54]);
}
