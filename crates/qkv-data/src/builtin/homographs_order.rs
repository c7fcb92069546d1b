//! The order family: the same words, another story. `the cat chased the dog .`, `the dog chased the cat .`
//!
//! Here belong the frames. A sentence and its mirror image are one group: whoever sees a bag of words sees the same
//! bag twice with the two tags exchanged, and is right on exactly half of the marked words.

use super::homographs::{ATTEMPTS, Dice, Draft, Register, Sizes};
use super::homographs_words::{draw, fill};
use super::{Family, Language, Mark, MarkedSentence};

/// Frames with `1` who does it and `2` whom it is done to.
const ENGLISH: &[&str] = &[
    "the/DET 1 DID the/DET 2 .",
    "today/ADV the/DET 1 DID the/DET 2 .",
    "the/DET 1 DID the/DET 2 again/ADV .",
    "the/DET 1 OFTEN DID the/DET 2 .",
    "PREP the/DET PLACE the/DET 1 DID the/DET 2 .",
    "the/DET 1 DID the/DET 2 PREP the/DET NOUN .",
];
const CHINESE: &[&str] = &[
    "1 追 了/PART 2 。",
    "这/DET 只/NOUN 1 追 了/PART 这/DET 只/NOUN 2 。",
    "今天/NOUN 1 追 了/PART 2 。",
    "1 又 追 了/PART 2 。",
    "1 总 追 2 。",
    "名 说/VERB 1 追 了/PART 2 。",
];

/// The sentences of one part: `sizes.order_pairs` pairs in English, half as many in Chinese.
pub(super) fn sentences(sizes: &Sizes, dice: &mut Dice, register: &mut Register) -> Vec<MarkedSentence> {
    let mut out = Vec::new();
    for (language, frames, nouns, pairs) in [
        (Language::English, ENGLISH, "BEAST", sizes.order_pairs),
        (Language::Chinese, CHINESE, "兽", sizes.order_pairs / 2),
    ] {
        for _ in 0..pairs {
            for _ in 0..ATTEMPTS {
                let (one, other) = (draw(nouns, dice).0, draw(nouns, dice).0);
                let Some(frame) = dice.pick(frames).filter(|_| one != other) else {
                    continue;
                };
                let group = mirrored(frame, [one, other], language, dice);
                let mut bag = group[0].words.clone();
                bag.sort_unstable();
                if register.admit(&bag.join(" "), &group) {
                    out.extend(group);
                    break;
                }
            }
        }
    }
    out
}

/// A sentence and the same with the two nouns exchanged.
fn mirrored(frame: &str, nouns: [&str; 2], language: Language, dice: &mut Dice) -> [MarkedSentence; 2] {
    let mut drafts = [Draft::default(), Draft::default()];
    for slot in frame.split_whitespace() {
        let mut word = Draft::default();
        let part = match slot {
            "1" => Some((0, "AGENT")),
            "2" => Some((1, "PATIENT")),
            _ => None,
        };
        if part.is_none() {
            fill(&mut word, slot, dice);
        }
        for (mirror, draft) in drafts.iter_mut().enumerate() {
            match part {
                Some((place, tag)) => draft.push(nouns[place ^ mirror], tag, Mark::Order),
                None => draft.append(&word),
            }
        }
    }
    drafts.map(|draft| draft.finish(Family::Order, language))
}
