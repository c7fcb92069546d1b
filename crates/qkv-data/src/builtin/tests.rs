//! What the embedded corpus promises. Each test names a promise that the demo's table stands on.

use std::collections::{BTreeMap, BTreeSet};

use super::homographs_far::LONGEST;
use super::*;

const PARTS: [Part; 3] = [Part::Train, Part::Dev, Part::Test];

/// Each token of some sentences: word, tag, mark.
fn tokens(sentences: &[MarkedSentence]) -> impl Iterator<Item = (&str, &str, Mark)> {
    sentences
        .iter()
        .flat_map(|s| (0..s.words.len()).map(move |i| (s.words[i].as_str(), s.tags[i].as_str(), s.marks[i])))
}

fn everything(corpus: &Corpus) -> Vec<MarkedSentence> {
    PARTS.iter().flat_map(|&part| corpus.part(part)).cloned().collect()
}

fn text(sentence: &MarkedSentence) -> String {
    sentence.words.join(" ")
}

#[test]
fn two_calls_give_the_same_corpus() {
    assert_eq!(homographs(), homographs());
}

#[test]
fn no_sentence_is_said_twice_in_any_part() {
    let all = everything(&homographs());
    let distinct: BTreeSet<String> = all.iter().map(text).collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn every_part_holds_hundreds_of_each_family_in_both_languages() {
    let corpus = homographs();
    let count = |part, family, language| {
        let sentences = corpus.part(part).iter();
        sentences.filter(|s| s.family == family && s.language == language).count()
    };
    for (part, least) in [(Part::Train, 100), (Part::Test, 100), (Part::Dev, 25)] {
        for family in [Family::Local, Family::Far, Family::Order] {
            for language in [Language::English, Language::Chinese] {
                let found = count(part, family, language);
                assert!(found >= least, "{part:?} {family:?} {language:?}: {found}");
            }
        }
    }
    let words = tokens(&corpus.train).count();
    assert!((25_000..=40_000).contains(&words), "{words} words to train on");
    assert!((2_000..=3_200).contains(&corpus.train.len()), "{}", corpus.train.len());
}

#[test]
fn words_tags_and_marks_go_together_and_no_sentence_is_too_long() {
    for s in everything(&homographs()) {
        assert_eq!(s.words.len(), s.tags.len());
        assert_eq!(s.words.len(), s.marks.len());
        assert!((3..=LONGEST).contains(&s.words.len()), "{}", text(&s));
        assert!(s.words.iter().all(|w| !w.is_empty() && !w.contains(char::is_whitespace)), "{s:?}");
        assert!(s.tags.iter().all(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_uppercase())), "{s:?}");
    }
}

#[test]
fn each_homograph_has_each_of_two_tags_equally_often_in_every_part() {
    let corpus = homographs();
    for part in PARTS {
        let mut count: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for (word, tag, mark) in tokens(corpus.part(part)) {
            if mark != Mark::Plain {
                *count.entry(word).or_default().entry(tag).or_default() += 1;
            }
        }
        for (word, tags) in &count {
            let counts: Vec<usize> = tags.values().copied().collect();
            assert_eq!(counts.len(), 2, "{part:?} {word} {tags:?}");
            assert_eq!(counts[0], counts[1], "{part:?} {word} {tags:?}");
        }
        let chinese = |word: &&&str| !word.is_ascii();
        assert!(count.keys().filter(chinese).count() >= 10 + 6 + 9, "{part:?}");
        assert!(count.len() >= 40 + 8 + 12 + 16, "{part:?} {}", count.len());
    }
}

#[test]
fn every_homograph_stands_in_every_part() {
    let corpus = homographs();
    let of = |part| -> BTreeSet<String> {
        let marked = tokens(corpus.part(part)).filter(|t| t.2 == Mark::Homograph);
        marked.map(|t| t.0.to_owned()).collect()
    };
    let train = of(Part::Train);
    assert!(train.iter().filter(|w| w.is_ascii()).count() >= 30);
    assert!(train.iter().filter(|w| !w.is_ascii()).count() >= 10);
    assert_eq!(train, of(Part::Dev));
    assert_eq!(train, of(Part::Test));
}

#[test]
fn a_plain_word_has_one_tag_and_is_never_marked() {
    let all = everything(&homographs());
    let mut plain: BTreeMap<&str, &str> = BTreeMap::new();
    for (word, tag, mark) in tokens(&all) {
        if mark == Mark::Plain {
            assert_eq!(*plain.entry(word).or_insert(tag), tag, "{word}");
        }
    }
    for (word, _, mark) in tokens(&all) {
        assert!(mark == Mark::Plain || !plain.contains_key(word), "{word} {mark:?}");
    }
}

#[test]
fn a_word_is_marked_for_one_reason_only() {
    let all = everything(&homographs());
    let mut kinds: BTreeMap<&str, u8> = BTreeMap::new();
    for (word, _, mark) in tokens(&all) {
        let kind = match mark {
            Mark::Plain => 0,
            Mark::Homograph => 1,
            Mark::Far { .. } => 2,
            Mark::Order => 3,
        };
        assert_eq!(*kinds.entry(word).or_insert(kind), kind, "{word}");
    }
}

#[test]
fn every_word_of_dev_and_test_is_seen_in_train_with_that_tag() {
    let corpus = homographs();
    let train: BTreeSet<(&str, &str)> = tokens(&corpus.train).map(|t| (t.0, t.1)).collect();
    for part in [Part::Dev, Part::Test] {
        for (word, tag, _) in tokens(corpus.part(part)) {
            assert!(train.contains(&(word, tag)), "{part:?} {word}/{tag}");
        }
    }
}

#[test]
fn two_words_on_either_side_decide_a_homograph() {
    let all = everything(&homographs());
    let mut seen: BTreeMap<Vec<&str>, &str> = BTreeMap::new();
    for s in &all {
        for at in (0..s.words.len()).filter(|&i| s.marks[i] == Mark::Homograph) {
            let around = (at + 2..at + 7).map(|i| {
                let word = i.checked_sub(4).and_then(|i| s.words.get(i));
                word.map_or("", String::as_str)
            });
            let tag = s.tags[at].as_str();
            assert_eq!(*seen.entry(around.collect()).or_insert(tag), tag, "{}", text(s));
        }
    }
    assert!(seen.len() > 500);
}

#[test]
fn far_sentences_come_in_pairs_that_differ_in_the_cue_and_its_sense_alone() {
    let corpus = homographs();
    for part in PARTS {
        let far: Vec<_> = corpus.part(part).iter().filter(|s| s.family == Family::Far).collect();
        assert_eq!(far.len() % 2, 0);
        for pair in far.chunks(2) {
            let [one, two] = [pair[0], pair[1]];
            assert_eq!(one.words.len(), two.words.len());
            assert_eq!(one.marks, two.marks);
            let differ =
                |a: &[String], b: &[String]| -> Vec<usize> { (0..a.len()).filter(|&i| a[i] != b[i]).collect() };
            let (words, tags) = (differ(&one.words, &two.words), differ(&one.tags, &two.tags));
            assert_eq!((words.len(), tags.len()), (1, 1), "{} | {}", text(one), text(two));
            let distance = tags[0] - words[0];
            assert_eq!(one.marks[tags[0]], Mark::Far { distance }, "{}", text(one));
            assert_eq!(one.marks.iter().filter(|&&m| m != Mark::Plain).count(), 1);
        }
    }
}

#[test]
fn only_the_cue_tells_the_sense_and_it_always_does() {
    // Every word of the far family but the cues stands equally often with either sense; a cue stands with one only.
    let all = everything(&homographs());
    let mut with: BTreeMap<(&str, usize), [usize; 2]> = BTreeMap::new();
    for s in all.iter().filter(|s| s.family == Family::Far) {
        let late = s.tags.iter().any(|t| t == "MACHINE" || t == "CHOICE");
        for (i, word) in s.words.iter().enumerate() {
            with.entry((word, i)).or_default()[usize::from(late)] += 1;
        }
    }
    let one_sided: BTreeSet<&str> = with.iter().filter(|(_, n)| n[0] != n[1]).map(|(&(word, _), _)| word).collect();
    for ((word, _), n) in &with {
        assert!(!one_sided.contains(word) || n[0] == 0 || n[1] == 0, "{word} {n:?}");
    }
    assert_eq!(one_sided.len(), 20, "{one_sided:?}");
}

#[test]
fn far_evidence_covers_every_distance_and_each_bucket_equally() {
    let corpus = homographs();
    for part in PARTS {
        for language in [Language::English, Language::Chinese] {
            let mut buckets = [0; DISTANCE_BUCKETS.len()];
            let mut distances = BTreeSet::new();
            for s in corpus.part(part).iter().filter(|s| s.language == language) {
                for mark in &s.marks {
                    if let Mark::Far { distance } = *mark {
                        buckets[distance_bucket(distance).expect("a distance outside the buckets")] += 1;
                        distances.insert(distance);
                    }
                }
            }
            assert!(buckets.iter().all(|&n| n == buckets[0] && n > 0), "{part:?} {buckets:?}");
            assert_eq!(distances, (3..=20).collect(), "{part:?} {language:?}");
        }
    }
}

#[test]
fn cues_stand_at_many_places_and_each_at_many_distances() {
    let corpus = homographs();
    let mut places = BTreeSet::new();
    let mut distances: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for s in corpus.train.iter() {
        for (i, mark) in s.marks.iter().enumerate() {
            if let Mark::Far { distance } = *mark {
                places.insert(i - distance);
                distances.entry(&s.words[i - distance]).or_default().insert(distance);
            }
        }
    }
    assert!(places.len() >= 4, "{places:?}");
    assert_eq!(distances.len(), 20);
    assert!(distances.values().all(|d| d.len() >= 12), "{distances:?}");
}

#[test]
fn order_sentences_come_in_pairs_of_one_bag_of_words() {
    let corpus = homographs();
    for part in PARTS {
        let order: Vec<_> = corpus.part(part).iter().filter(|s| s.family == Family::Order).collect();
        assert_eq!(order.len() % 2, 0);
        for pair in order.chunks(2) {
            let bag = |s: &MarkedSentence| {
                let mut words = s.words.clone();
                words.sort_unstable();
                words
            };
            assert_eq!(bag(pair[0]), bag(pair[1]));
            let roles = |s: &MarkedSentence| -> BTreeMap<String, String> {
                let marked = (0..s.words.len()).filter(|&i| s.marks[i] == Mark::Order);
                marked.map(|i| (s.words[i].clone(), s.tags[i].clone())).collect()
            };
            let (one, two) = (roles(pair[0]), roles(pair[1]));
            assert_eq!(one.len(), 2);
            assert!(one.iter().all(|(word, role)| two[word] != *role), "{one:?} {two:?}");
        }
    }
}

#[test]
fn the_parts_share_no_bag_of_words_in_the_order_family_and_no_skeleton_in_the_far_family() {
    let corpus = homographs();
    let key = |s: &MarkedSentence| -> Option<Vec<String>> {
        let mut words = s.words.clone();
        match s.family {
            Family::Local => return None,
            Family::Order => words.sort_unstable(),
            Family::Far => {
                for (i, mark) in s.marks.iter().enumerate() {
                    if let Mark::Far { distance } = *mark {
                        words[i - distance] = String::new();
                    }
                }
            }
        }
        Some(words)
    };
    let keys = |part| -> BTreeSet<_> { corpus.part(part).iter().filter_map(key).collect() };
    let (train, dev, test) = (keys(Part::Train), keys(Part::Dev), keys(Part::Test));
    assert!(test.len() > 100 && train.is_disjoint(&test));
    assert!(train.is_disjoint(&dev) && dev.is_disjoint(&test));
}

#[test]
fn the_named_examples_are_in_the_test_part() {
    let corpus = homographs();
    let find = |wanted: &str| corpus.test.iter().find(|s| text(s) == wanted).map(|s| s.tags.join(" "));
    assert_eq!(find("I saw a saw .").as_deref(), Some("PRON VERB DET NOUN PUNCT"));
    assert_eq!(find("they can can the fish .").as_deref(), Some("PRON AUX VERB DET NOUN PUNCT"));
    let past = find("过去 的 人 在 想 什么 东西 能 吃 ？");
    let now = find("现在 的 人 在 想 什么 东西 能 吃 ？");
    assert_eq!(past.as_deref(), Some("NOUN PART NOUN ADV VERB PRON NOUN AUX ABLE PUNCT"));
    assert_eq!(now.as_deref(), Some("NOUN PART NOUN ADV VERB PRON NOUN AUX CHOICE PUNCT"));
}

#[test]
fn without_context_half_of_the_marked_words_are_right_and_all_of_the_others() {
    let corpus = homographs();
    for part in PARTS {
        let s = corpus.part(part);
        assert_eq!(ceiling_without_context(s, |m| m == Mark::Plain), 1.0);
        assert_eq!(ceiling_without_context(s, |m| m == Mark::Homograph), 0.5);
        assert_eq!(ceiling_without_context(s, |m| matches!(m, Mark::Far { .. })), 0.5);
        assert_eq!(ceiling_without_context(s, |m| m == Mark::Order), 0.5);
        let all = ceiling_without_context(s, |_| true);
        assert!((0.85..0.95).contains(&all), "{part:?} {all}");
    }
    assert_eq!(ceiling_without_context(&[], |_| true), 1.0);
}

#[test]
fn a_corpus_opens_by_its_name_and_an_unknown_one_lists_the_known() {
    assert_eq!(open("homographs", Part::Dev).as_ref(), Ok(&homographs().dev));
    assert_eq!(open("builtin:homographs", Part::Test).as_ref(), Ok(&homographs().test));
    let error = open("builtin:homograph", Part::Train).unwrap_err().to_string();
    assert_eq!(error, "builtin:homograph: there is no such embedded corpus; known: homographs");
}

#[test]
fn buckets_hold_their_ends_and_nothing_beyond() {
    let bucket = |d| distance_bucket(d);
    assert_eq!(
        [2, 3, 5, 6, 14, 15, 20, 21].map(bucket),
        [None, Some(0), Some(0), Some(1), Some(2), Some(3), Some(3), None]
    );
}
