//! The local family: homographs, decided by the words next to them.
//!
//! Here belong the homographs, their frames and the count that keeps both readings of each equally frequent. A frame
//! is what [`fill`] takes, with `@` for the homograph; frames of several homographs name a reading too.

use std::collections::BTreeMap;

use super::homographs::{ATTEMPTS, Dice, Draft, Register, Sizes};
use super::homographs_words::fill;
use super::{Family, Language, Mark, MarkedSentence};

/// A word with two tags and the frames in which it has the one and the other.
struct Homograph {
    word: &'static str,
    readings: [Reading; 2],
    language: Language,
    /// One of many words with the same frames.
    shared: bool,
}

/// A tag and the frames that call for it.
type Reading = (&'static str, &'static [&'static str]);

/// English words that are nouns and verbs alike.
pub(super) const NOUN_VERB: &[&str] = &[
    "saw", "watch", "duck", "park", "fish", "book", "play", "bear", "light", "cook", "plant", "water", "paint",
    "phone", "call", "walk", "drink", "help", "drive", "ride", "visit", "dream", "dance", "promise", "kiss", "hammer",
    "brush", "ship",
];

const AS_NOUN: Reading = (
    "NOUN",
    &[
        "DET @ PASTV PREP DET NOUN .",
        "DET ADJ @ PASTV ADV .",
        "PRON BASE DET @ ADV .",
        "PRON BASE DET ADJ @ .",
        "NAME MODAL BASE DET @ PREP DET NOUN .",
        "there/ADV is/AUX DET @ PREP DET NOUN .",
        "DET NOUN PASTV PREP DET ADJ @ .",
    ],
);
const AS_VERB: Reading = (
    "VERB",
    &[
        "PRON MODAL @ DET NOUN .",
        "PRON want/VERB to/PART @ DET ADJ NOUN .",
        "PRON @ DET NOUN ADV .",
        "PRON OFTEN @ DET NOUN .",
        "please/INTJ @ DET NOUN PREP DET NOUN .",
        "NAME MODAL OFTEN @ DET ADJ NOUN .",
        "PRON @ DET NOUN PREP DET NOUN .",
        "DET NOUN PASTV and/CCONJ PRON @ DET NOUN .",
    ],
);
const AS_AUX: Reading = (
    "AUX",
    &[
        "PRON @ BASE DET NOUN .",
        "NAME @ BASE DET ADJ NOUN .",
        "PRON @ OFTEN BASE DET NOUN .",
        "DET NOUN @ BASE DET NOUN .",
    ],
);
const AS_ADJ: Reading = (
    "ADJ",
    &[
        "DET @ NOUN PASTV ADV .",
        "PRON BASE DET @ NOUN .",
        "there/ADV is/AUX DET @ NOUN PREP DET NOUN .",
        "DET NOUN PASTV PREP DET @ NOUN .",
    ],
);

/// English homographs whose pair of tags few others have.
const ENGLISH: &[(&str, [Reading; 2])] = &[
    (
        "can",
        [
            AS_AUX,
            (
                "VERB",
                &[
                    "PRON MODAL @ DET NOUN .",
                    "PRON want/VERB to/PART @ DET NOUN .",
                    "please/INTJ @ DET ADJ NOUN ADV .",
                    "NAME MODAL @ DET NOUN PREP DET NOUN .",
                ],
            ),
        ],
    ),
    ("will", [AS_AUX, AS_NOUN]),
    ("might", [AS_AUX, AS_NOUN]),
    (
        "like",
        [
            AS_VERB,
            (
                "ADP",
                &[
                    "DET NOUN @ DET NOUN PASTV .",
                    "PRON BASE DET NOUN @ DET NOUN .",
                    "there/ADV is/AUX DET NOUN @ DET NOUN .",
                ],
            ),
        ],
    ),
    (
        "her",
        [
            ("PRON", &["PRON BASE @ ADV .", "NAME MODAL BASE @ .", "PRON BASE @ PREP DET NOUN ."]),
            ("DET", &["PRON BASE @ NOUN .", "@ NOUN PASTV ADV .", "NAME MODAL BASE @ NOUN ADV ."]),
        ],
    ),
    ("fast", [AS_ADJ, ("ADV", &["DET NOUN PASTV @ .", "PRON BASE DET NOUN @ .", "NAME MODAL BASE DET NOUN @ ."])]),
    ("cold", [AS_ADJ, ("NOUN", &["PRON BASE DET @ .", "DET @ PASTV ADV .", "NAME MODAL BASE DET ADJ @ ."])]),
    ("clean", [AS_VERB, AS_ADJ]),
    ("dry", [AS_VERB, AS_ADJ]),
    ("warm", [AS_VERB, AS_ADJ]),
    ("left", [("VERB", &["PRON @ DET NOUN ADV .", "NAME @ DET NOUN .", "PRON OFTEN @ DET ADJ NOUN ."]), AS_ADJ]),
];

/// Chinese homographs. Each has frames of its own, with its own measure words.
const CHINESE: &[(&str, [Reading; 2])] = &[
    (
        "上",
        [
            (
                "VERB",
                &[
                    "我 要 @ 山/NOUN 。",
                    "我 又 @ 车/NOUN 了/PART 。",
                    "名 要 @ 楼/NOUN 。",
                    "友 又 @ 船/NOUN 了/PART 。",
                ],
            ),
            (
                "ADP",
                &["物 @ 有/VERB 数 个/NOUN 东 。", "名 见 了/PART 物 @ 的/PART 东 。", "这/DET 物 @ 没有/VERB 东 。"],
            ),
        ],
    ),
    (
        "下",
        [
            (
                "VERB",
                &[
                    "我 要 @ 山/NOUN 。",
                    "我 又 @ 车/NOUN 了/PART 。",
                    "名 要 @ 楼/NOUN 。",
                    "友 又 @ 船/NOUN 了/PART 。",
                ],
            ),
            (
                "ADP",
                &["物 @ 有/VERB 数 个/NOUN 东 。", "名 见 了/PART 物 @ 的/PART 东 。", "这/DET 物 @ 没有/VERB 东 。"],
            ),
        ],
    ),
    (
        "花",
        [
            ("NOUN", &["这/DET 朵/NOUN @ 很 好 。", "我 见 了/PART 数 朵/NOUN @ 。", "友 的/PART @ 很 好 。"]),
            (
                "VERB",
                &["我 要 @ 很多/ADJ 钱/NOUN 。", "友 又 @ 了/PART 很多/ADJ 时间/NOUN 。", "名 又 @ 钱/NOUN 了/PART 。"],
            ),
        ],
    ),
    (
        "画",
        [
            ("NOUN", &["这/DET 幅/NOUN @ 很 好 。", "我 见 了/PART 数 幅/NOUN @ 。", "友 的/PART @ 很 好 。"]),
            ("VERB", &["我 要 @ 数 个/NOUN 东 。", "友 又 @ 了/PART 这/DET 个/NOUN 东 。", "名 又 @ 东 了/PART 。"]),
        ],
    ),
    (
        "锁",
        [
            ("NOUN", &["这/DET 把/NOUN @ 很 好 。", "我 见 了/PART 数 把/NOUN @ 。", "友 的/PART @ 很 好 。"]),
            ("VERB", &["我 要 @ 门/NOUN 。", "友 又 @ 了/PART 物 。", "名 又 @ 门/NOUN 了/PART 。"]),
        ],
    ),
    (
        "锯",
        [
            ("NOUN", &["这/DET 把/NOUN @ 很 好 。", "我 见 了/PART 数 把/NOUN @ 。", "友 的/PART @ 很 好 。"]),
            ("VERB", &["我 要 @ 木头/NOUN 。", "友 又 @ 了/PART 物 。", "名 又 @ 木头/NOUN 了/PART 。"]),
        ],
    ),
    (
        "包",
        [
            ("NOUN", &["这/DET 个/NOUN @ 很 好 。", "我 见 了/PART 数 个/NOUN @ 。", "友 的/PART @ 很 好 。"]),
            ("VERB", &["我 要 @ 饺子/NOUN 。", "友 又 @ 了/PART 东 。", "名 又 @ 饺子/NOUN 了/PART 。"]),
        ],
    ),
    (
        "会",
        [
            ("AUX", &["我 @ 见 东 。", "友 也/ADV @ 走 。", "名 都/ADV @ 见 这/DET 个/NOUN 东 。"]),
            (
                "NOUN",
                &[
                    "我 要 开/VERB @ 。",
                    "友 又 开/VERB 了/PART @ 。",
                    "这/DET 个/NOUN @ 很 好 。",
                    "名 又 开/VERB 数 个/NOUN @ 。",
                ],
            ),
        ],
    ),
    (
        "过",
        [
            ("VERB", &["我 要 @ 河/NOUN 。", "友 又 @ 桥/NOUN 了/PART 。", "名 要 @ 街/NOUN 。"]),
            ("PART", &["我 见 @ 这/DET 个/NOUN 东 。", "友 也/ADV 走 @ 。", "名 见 @ 数 个/NOUN 东 。"]),
        ],
    ),
    (
        "给",
        [
            ("VERB", &["我 @ 了/PART 友 数 个/NOUN 东 。", "名 要 @ 我 数 个/NOUN 东 。", "友 又 @ 我 东 。"]),
            (
                "ADP",
                &["我 @ 友 写/VERB 信/NOUN 。", "名 要 @ 友 打开/VERB 门/NOUN 。", "友 又 @ 我 唱/VERB 歌/NOUN 。"],
            ),
        ],
    ),
    (
        "得",
        [
            ("PART", &["我 走 @ 很 快/ADJ 。", "名 走 @ 很 慢/ADJ 。", "友 也/ADV 走 @ 很 好听/ADJ 。"]),
            ("VERB", &["我 又 @ 病/NOUN 了/PART 。", "名 @ 了/PART 数 个/NOUN 奖/NOUN 。", "友 要 @ 奖/NOUN 。"]),
        ],
    ),
    (
        "打",
        [
            ("VERB", &["我 要 @ 鼓/NOUN 。", "名 又 @ 球/NOUN 了/PART 。", "友 @ 了/PART 数 个/NOUN 球/NOUN 。"]),
            ("NOUN", &["我 见 了/PART 数 @ 东 。", "物 里/ADP 有/VERB 数 @ 东 。", "友 要 数 @ 东 。"]),
        ],
    ),
    (
        "点",
        [
            ("VERB", &["我 要 @ 菜/NOUN 。", "名 又 @ 灯/NOUN 了/PART 。", "友 @ 了/PART 数 个/NOUN 菜/NOUN 。"]),
            ("NOUN", &["我 数 @ 走 。", "友 要 数 @ 开/VERB 门/NOUN 。", "名 数 @ 又 走 了/PART 。"]),
        ],
    ),
    (
        "对",
        [
            ("ADP", &["我 @ 友 很 好 。", "友 也/ADV @ 我 很 好 。", "名 要 @ 友 客气/ADJ 。"]),
            (
                "ADJ",
                &[
                    "友 的/PART 答案/NOUN 很 @ 。",
                    "这/DET 个/NOUN 答案/NOUN 很 @ 。",
                    "名 的/PART 答案/NOUN 也/ADV @ 。",
                ],
            ),
        ],
    ),
    (
        "白",
        [
            ("ADJ", &["我 见 了/PART @ 东 。", "这/DET 个/NOUN @ 东 很 好 。", "友 的/PART @ 东 很 好 。"]),
            ("ADV", &["我 @ 走 了/PART 数 天/NOUN 。", "友 又 @ 走 了/PART 。", "名 又 @ 走 了/PART 数 天/NOUN 。"]),
        ],
    ),
    (
        "跟",
        [
            ("ADP", &["我 @ 友 聊天/VERB 。", "名 要 @ 友 商量/VERB 。", "友 又 @ 我 聊天/VERB 。"]),
            ("VERB", &["我 @ 着/PART 友 走 。", "名 要 @ 着/PART 友 走 。", "友 又 @ 着/PART 我 走 。"]),
        ],
    ),
];

/// Frames of several homographs of the noun-or-verb class: `@` is one word, `%` another, `N` and `V` the reading.
const MIXED: &[&str] = &[
    "PRON @V DET %N .",
    "PRON @V DET ADJ %N ADV .",
    "PRON MODAL @V DET %N .",
    "PRON can/AUX @V DET %N .",
    "PRON can/AUX can/VERB DET @N .",
    "NAME will/AUX @V DET %N PREP DET NOUN .",
    "DET @N PASTV PREP DET %N .",
    "PRON want/VERB to/PART @V her/DET %N .",
    "please/INTJ @V DET cold/ADJ NOUN .",
    "NAME might/AUX @V DET NOUN fast/ADV .",
    "DET @N like/ADP DET %N PASTV .",
];

/// Frames in which one word stands in both readings.
const TWINS: &[&str] = &[
    "PRON @V DET @N .",
    "PRON @V DET ADJ @N .",
    "PRON MODAL @V DET @N .",
    "PRON OFTEN @V DET @N ADV .",
    "DET @N PASTV PREP DET NOUN and/CCONJ PRON @V DET NOUN .",
];

/// Sentences that the test part has by name.
const NAMED: &[&str] = &["I/PRON saw/VERB a/DET saw/NOUN .", "they/PRON can/AUX can/VERB the/DET fish/NOUN ."];

/// All homographs of the family.
fn table() -> Vec<Homograph> {
    let shared = NOUN_VERB.iter().map(|&word| Homograph {
        word,
        readings: [AS_NOUN, AS_VERB],
        language: Language::English,
        shared: true,
    });
    let alone = |list: &'static [(&'static str, [Reading; 2])], language| {
        list.iter().map(move |&(word, readings)| Homograph { word, readings, language, shared: false })
    };
    shared.chain(alone(ENGLISH, Language::English)).chain(alone(CHINESE, Language::Chinese)).collect()
}

/// The sentences of one part: each homograph has each of its tags exactly as often as `sizes` says.
///
/// Sentences of several homographs come first and use up what they use; sentences of one fill the rest.
pub(super) fn sentences(sizes: &Sizes, named: bool, dice: &mut Dice, register: &mut Register) -> Vec<MarkedSentence> {
    let table = table();
    let mut writer = Writer { wanted: BTreeMap::new(), dice, register, out: Vec::new() };
    for homograph in &table {
        let count = if homograph.shared { sizes.shared } else { sizes.alone };
        for (tag, _) in homograph.readings {
            writer.wanted.insert((homograph.word, tag), count);
        }
    }
    if named {
        for frame in NAMED {
            writer.write(&[frame], ["", ""], "", Language::English);
        }
    }
    for &word in NOUN_VERB {
        for _ in 0..sizes.twins {
            writer.write(TWINS, [word, ""], "", Language::English);
        }
    }
    for _ in 0..sizes.mixed {
        let first = writer.dice.below(NOUN_VERB.len());
        let step = 1 + writer.dice.below(NOUN_VERB.len() - 1);
        let second = (first + step) % NOUN_VERB.len();
        let pair = [NOUN_VERB[first], NOUN_VERB[second]];
        writer.write(MIXED, pair, "", Language::English);
    }
    for homograph in &table {
        for (tag, frames) in homograph.readings {
            while writer.is_wanted(homograph.word, tag)
                && writer.write(frames, [homograph.word, ""], tag, homograph.language)
            {}
        }
    }
    writer.out
}

/// Writes sentences and keeps count of the tokens that are still wanted, by word and tag.
struct Writer<'a> {
    wanted: BTreeMap<(&'static str, &'static str), usize>,
    dice: &'a mut Dice,
    register: &'a mut Register,
    out: Vec<MarkedSentence>,
}

impl Writer<'_> {
    fn is_wanted(&self, word: &'static str, tag: &'static str) -> bool {
        self.wanted.get(&(word, tag)).is_some_and(|&count| count > 0)
    }

    /// Adds one new sentence of one of `frames`, if there is one whose homographs are all wanted still.
    fn write(
        &mut self,
        frames: &[&'static str],
        words: [&'static str; 2],
        tag: &'static str,
        language: Language,
    ) -> bool {
        for _ in 0..ATTEMPTS {
            let Some(&frame) = self.dice.pick(frames) else {
                return false;
            };
            let (draft, used) = self.compose(frame, words, tag);
            let sentence = draft.finish(Family::Local, language);
            let mut wanted = self.wanted.clone();
            let affordable = used.iter().all(|reading| {
                wanted.get_mut(reading).is_some_and(|count| match count.checked_sub(1) {
                    Some(less) => {
                        *count = less;
                        true
                    }
                    None => false,
                })
            });
            let key = sentence.words.join(" ");
            if affordable && self.register.admit(&key, std::slice::from_ref(&sentence)) {
                self.wanted = wanted;
                self.out.push(sentence);
                return true;
            }
        }
        false
    }

    /// Fills a frame: the draft, and the homographs in it with their readings.
    fn compose(
        &mut self,
        frame: &'static str,
        words: [&'static str; 2],
        tag: &'static str,
    ) -> (Draft, Vec<(&'static str, &'static str)>) {
        let mut draft = Draft::default();
        let mut used = Vec::new();
        for slot in frame.split_whitespace() {
            let reading = match slot {
                "@" => Some((words[0], tag)),
                "@N" => Some((words[0], "NOUN")),
                "@V" => Some((words[0], "VERB")),
                "%N" => Some((words[1], "NOUN")),
                _ => slot.rsplit_once('/').filter(|reading| self.wanted.contains_key(reading)),
            };
            match reading {
                Some((word, tag)) => {
                    draft.push(word, tag, Mark::Homograph);
                    used.push((word, tag));
                }
                None => fill(&mut draft, slot, self.dice),
            }
        }
        (draft, used)
    }
}
