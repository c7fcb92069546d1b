//! The far family: one clause, two senses, decided by one word far to the left.
//!
//! English: a *computer*, a *printer*, a *typewriter* was a person once and is a machine nowadays. Chinese:
//! 「过去的人在想什么东西能吃？现在的人在想什么东西能吃？」, what can be eaten at all, or which of the dishes to choose.
//! Between the cue and the word it decides stands as much neutral filler as the distance asks for, and nothing else in
//! the sentence depends on the sense (English keeps to `would`, which suits either time).
//!
//! Here belong the frames and the filler. Sentences come in pairs with the cues exchanged; a pair is one group.

use super::homographs::{ATTEMPTS, Dice, Draft, Register, Sizes};
use super::homographs_words::{draw, fill};
use super::{DISTANCE_BUCKETS, Family, Language, Mark, MarkedSentence};

/// Words in the longest sentence.
pub(super) const LONGEST: usize = 26;

/// The words of one language: what stands before the cue, between, and after the target.
struct Grammar {
    language: Language,
    /// Classes of the cues, and the sense that each calls for.
    cues: [(&'static str, &'static str); 2],
    /// Class of the words whose sense is decided.
    targets: &'static str,
    /// What may precede the cue.
    openings: &'static [&'static str],
    /// What leads up to the target, and what may follow it.
    clauses: &'static [Clause],
}

/// Words around the target, with a place for filler.
struct Clause {
    /// Directly after the cue.
    after_cue: &'static str,
    /// Filler that may stand after that.
    early: &'static [&'static str],
    /// Between the filler and more filler.
    middle: &'static str,
    /// Filler that may stand there.
    late: &'static [&'static str],
    /// Directly before the target.
    before_target: &'static str,
    /// What may follow the target.
    endings: &'static [&'static str],
    /// The most words of filler that still read well.
    filler: usize,
}

const ASIDES: &[&str] =
    &["CALM", "WHERE the/DET PLACE", "WHERE the/DET PLAIN PLACE", "in/ADP SEASON", "WHERE this/DET PLACE"];

const PREDICATES: &[&str] =
    &["would/AUX STOP .", "would/AUX CALM STOP .", "would/AUX STOP again/ADV .", "would/AUX STOP in/ADP SEASON ."];

const ENGLISH: Grammar = Grammar {
    language: Language::English,
    cues: [("OLD", "PERSON"), ("NEW", "MACHINE")],
    targets: "MACHINE",
    openings: &[
        "",
        "",
        "CALM",
        "in/ADP SEASON",
        "WHERE the/DET PLACE",
        "we/PRON know/VERB ,/PUNCT",
        "WHERE this/DET PLAIN PLACE",
        "as/SCONJ everyone/PRON knows/VERB ,/PUNCT",
    ],
    clauses: &[
        Clause {
            after_cue: "",
            early: ASIDES,
            middle: "",
            late: &[],
            before_target: "the/DET PLAIN",
            endings: PREDICATES,
            filler: 14,
        },
        Clause {
            after_cue: "",
            early: ASIDES,
            middle: "the/DET FOLK",
            late: ASIDES,
            before_target: "would/AUX AWAIT the/DET",
            endings: &[".", "in/ADP SEASON .", "WHERE the/DET PLACE ."],
            filler: 16,
        },
        Clause {
            after_cue: "",
            early: ASIDES,
            middle: "the/DET PLAIN FOLK",
            late: ASIDES,
            before_target: "would/AUX wonder/VERB whether/SCONJ the/DET",
            endings: PREDICATES,
            filler: 14,
        },
    ],
};

const HABITS: &[&str] =
    &["总", "和/ADP 伴 一起/ADV", "一边/ADV 走路/VERB 一边/ADV 唱歌/VERB", "跟着/ADP 伴", "为了/ADP 孩子/NOUN"];
const TRAITS: &[&str] = &["美 的/PART", "地 的/PART", "十分/ADV 美 的/PART", "这些/DET"];
const QUESTION: &[&str] = &["？", "呢 ？"];

const CHINESE: Grammar = Grammar {
    language: Language::Chinese,
    cues: [("古", "ABLE"), ("今", "CHOICE")],
    targets: "吃",
    openings: &[
        "",
        "",
        "据说/ADV",
        "友 问/VERB",
        "我 听说/VERB ，/PUNCT",
        "大家/PRON 都/ADV 知道/VERB ，/PUNCT",
        "名 想/VERB 知道/VERB",
    ],
    clauses: &[
        Clause {
            after_cue: "",
            early: &["地", "总"],
            middle: "",
            late: &[],
            before_target: "什么/PRON 能/AUX",
            endings: QUESTION,
            filler: 4,
        },
        Clause {
            after_cue: "",
            early: &["地", "总"],
            middle: "",
            late: &[],
            before_target: "什么/PRON 东西/NOUN 能/AUX",
            endings: QUESTION,
            filler: 4,
        },
        Clause {
            after_cue: "的/PART",
            early: TRAITS,
            middle: "人/NOUN",
            late: HABITS,
            before_target: "在/ADV 想/VERB 什么/PRON 东西/NOUN 能/AUX",
            endings: QUESTION,
            filler: 13,
        },
        Clause {
            after_cue: "的/PART",
            early: TRAITS,
            middle: "伴 们/PART",
            late: HABITS,
            before_target: "问/VERB 什么/PRON 能/AUX",
            endings: QUESTION,
            filler: 14,
        },
    ],
};

/// The examples that the test part has by name: the cue's tag, what stands between, and the word it decides.
const NAMED: (&str, &str) = ("的/PART 人/NOUN 在/ADV 想/VERB 什么/PRON 东西/NOUN 能/AUX", "吃");

/// The sentences of one part: in each language and each bucket of distances `sizes.far_pairs` pairs.
pub(super) fn sentences(sizes: &Sizes, named: bool, dice: &mut Dice, register: &mut Register) -> Vec<MarkedSentence> {
    let mut out = Vec::new();
    for grammar in [&ENGLISH, &CHINESE] {
        for (low, high) in DISTANCE_BUCKETS {
            for pair in 0..sizes.far_pairs {
                let distance = low + pair % (high + 1 - low);
                let lecture = named && grammar.language == Language::Chinese && distance == 8;
                for attempt in 0..ATTEMPTS {
                    let skeleton = if lecture && attempt == 0 && pair < high - low + 1 {
                        Some(the_lecture(dice))
                    } else {
                        skeleton(grammar, distance, dice)
                    };
                    let Some(skeleton) = skeleton else { continue };
                    let pair = skeleton.pair(grammar, distance);
                    if register.admit(&skeleton.key(), &pair) {
                        out.extend(pair);
                        break;
                    }
                }
            }
        }
    }
    out
}

/// A sentence without its cue and without the target's sense.
struct Skeleton {
    opening: Draft,
    cues: [(&'static str, &'static str); 2],
    between: Draft,
    target: &'static str,
    ending: Draft,
}

impl Skeleton {
    /// Equal for sentences that differ in the cue only: they must not fall into two parts.
    fn key(&self) -> String {
        let words = |draft: &Draft| draft.words().join(" ");
        format!("{} _ {} {} {}", words(&self.opening), words(&self.between), self.target, words(&self.ending))
    }

    /// The sentence with the one cue and with the other.
    fn pair(&self, grammar: &Grammar, distance: usize) -> Vec<MarkedSentence> {
        self.cues
            .iter()
            .zip(grammar.cues)
            .map(|(&(cue, cue_tag), (_, sense))| {
                let mut draft = self.opening.clone();
                draft.plain(cue, cue_tag);
                draft.append(&self.between);
                draft.push(self.target, sense, Mark::Far { distance });
                draft.append(&self.ending);
                draft.finish(Family::Far, grammar.language)
            })
            .collect()
    }
}

/// The lectures' own example, with the cues that it is told with.
fn the_lecture(dice: &mut Dice) -> Skeleton {
    let mut between = Draft::default();
    fill(&mut between, NAMED.0, dice);
    let mut ending = Draft::default();
    fill(&mut ending, "？", dice);
    Skeleton {
        opening: Draft::default(), cues: [("过去", "NOUN"), ("现在", "NOUN")], between, target: NAMED.1, ending
    }
}

/// A new sentence with exactly `distance - 1` words between cue and target, unless the draw came out too long.
fn skeleton(grammar: &Grammar, distance: usize, dice: &mut Dice) -> Option<Skeleton> {
    let clause = dice.pick(grammar.clauses)?;
    let mut opening = Draft::default();
    fill(&mut opening, dice.pick(grammar.openings)?, dice);
    let cues = grammar.cues.map(|(class, _)| draw(class, dice));
    let mut end = Draft::default();
    fill(&mut end, clause.before_target, dice);
    let mut middle = Draft::default();
    fill(&mut middle, clause.middle, dice);
    let mut between = Draft::default();
    fill(&mut between, clause.after_cue, dice);
    let fixed = between.len() + middle.len() + end.len();
    let filler = (distance - 1).checked_sub(fixed)?;
    if filler > clause.filler {
        return None;
    }
    let early = if clause.late.is_empty() { filler } else { dice.below(filler + 1) };
    stuff(&mut between, clause.early, early, dice)?;
    between.append(&middle);
    stuff(&mut between, clause.late, filler - early, dice)?;
    between.append(&end);
    // The same word twice in a row is filler that nobody would write.
    if between.words().windows(2).any(|two| two[0] == two[1]) {
        return None;
    }
    let target = draw(grammar.targets, dice).0;
    let mut ending = Draft::default();
    fill(&mut ending, dice.pick(clause.endings)?, dice);
    let length = opening.len() + 1 + between.len() + 1 + ending.len();
    (length <= LONGEST).then_some(Skeleton { opening, cues, between, target, ending })
}

/// Appends exactly `words` words of filler; none if the draw does not fit.
fn stuff(draft: &mut Draft, filler: &[&str], words: usize, dice: &mut Dice) -> Option<()> {
    let end = draft.len() + words;
    while draft.len() < end {
        let piece = dice.pick(filler)?;
        if draft.len() + piece.split_whitespace().count() > end {
            return None;
        }
        fill(draft, piece, dice);
    }
    Some(())
}
