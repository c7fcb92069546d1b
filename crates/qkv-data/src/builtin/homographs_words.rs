//! The words of `builtin:homographs`: classes of words that have one tag each, and how a frame is filled from them.
//!
//! Here belong the lexicon and [`fill`]. Which frames there are belongs to the families' own files. A word stands in
//! classes of one tag only: a test holds the corpus to it.

use super::homographs::{Dice, Draft};

/// A class of words by its name in frames: its tag and its members.
type Class = (&'static str, &'static str, &'static [&'static str]);

// No English word here begins with a vowel sound where `a` may stand before it, and none is a homograph of the corpus.
const CLASSES: &[Class] = &[
    (".", "PUNCT", &["."]),
    ("。", "PUNCT", &["。"]),
    ("？", "PUNCT", &["？"]),
    ("PRON", "PRON", &["I", "we", "they", "you"]),
    ("NAME", "PROPN", &["Mary", "Peter", "Julia", "Thomas", "Nora", "Victor"]),
    ("DET", "DET", &["a", "the", "this", "my", "your", "their"]),
    ("MODAL", "AUX", &["should", "must", "would", "could"]),
    (
        "ADJ",
        "ADJ",
        &["big", "small", "new", "red", "quiet", "strange", "heavy", "tiny", "famous", "green", "simple", "good"],
    ),
    (
        "NOUN",
        "NOUN",
        &[
            "table", "river", "house", "garden", "door", "letter", "window", "teacher", "farmer", "doctor", "kitchen",
            "boat", "road", "wall", "basket", "bridge",
        ],
    ),
    ("BASE", "VERB", &["need", "find", "carry", "remember", "describe", "prefer", "draw", "keep"]),
    ("PASTV", "VERB", &["stood", "stayed", "appeared", "fell", "waited", "disappeared"]),
    ("PREP", "ADP", &["near", "behind", "beside", "under"]),
    ("ADV", "ADV", &["again", "today", "tomorrow", "soon", "together", "quickly"]),
    ("OFTEN", "ADV", &["often", "never", "always", "seldom"]),
    // Far evidence, English: an office, a workshop, a hotel, of any age.
    ("OLD", "ADV", &["formerly", "once", "originally", "anciently", "historically"]),
    ("NEW", "ADV", &["nowadays", "presently", "currently", "lately", "recently"]),
    ("MACHINE", "", &["computer", "calculator", "printer", "typewriter", "server", "dishwasher", "copier", "dryer"]),
    ("FOLK", "NOUN", &["clerks", "guests", "students", "merchants", "visitors", "engineers", "owners", "neighbours"]),
    (
        "PLACE",
        "NOUN",
        &[
            "office", "workshop", "hotel", "library", "palace", "factory", "village", "market", "station", "college",
            "museum", "harbour", "valley", "castle", "square", "tower",
        ],
    ),
    ("WHERE", "ADP", &["near", "behind", "beside", "in", "at", "outside"]),
    ("SEASON", "NOUN", &["spring", "summer", "winter", "autumn", "secret", "silence", "company", "general"]),
    ("CALM", "ADV", &["patiently", "politely", "usually", "sometimes", "nervously", "gladly", "perhaps", "surely"]),
    (
        "PLAIN",
        "ADJ",
        &[
            "big", "small", "busy", "grey", "royal", "local", "modest", "quiet", "distant", "lonely", "sunny",
            "northern",
        ],
    ),
    ("STOP", "VERB", &["stop", "finish", "start", "pause", "fail", "continue"]),
    ("AWAIT", "VERB", &["need", "praise", "blame", "trust", "mention", "prefer"]),
    // Order, English: nouns of their own, since their tag is their part in the story.
    ("BEAST", "", &["cat", "dog", "fox", "wolf", "hen", "goat", "mouse", "rabbit", "tiger", "lion", "monkey", "sheep"]),
    ("DID", "VERB", &["chased", "followed", "greeted", "pushed", "noticed", "admired"]),
    // Chinese.
    ("我", "PRON", &["我", "你", "他", "我们", "他们", "她"]),
    ("名", "PROPN", &["小明", "小红", "老王", "李华", "王芳"]),
    ("要", "AUX", &["要", "想要", "应该", "必须"]),
    ("很", "ADV", &["很", "非常", "真", "太"]),
    ("又", "ADV", &["又", "常常", "刚刚", "马上", "终于"]),
    ("好", "ADJ", &["大", "小", "贵", "漂亮", "特别", "旧", "便宜", "奇怪"]),
    ("物", "NOUN", &["桌子", "箱子", "屋顶", "石头", "柜子", "椅子"]),
    ("东", "NOUN", &["杯子", "苹果", "书", "盘子", "帽子", "信", "鸡蛋", "纸"]),
    ("友", "NOUN", &["老师", "朋友", "同学", "妈妈", "医生", "邻居"]),
    ("数", "NUM", &["一", "两", "三", "五", "六", "十"]),
    ("见", "VERB", &["看见", "拿", "找到", "记得", "送", "讨论"]),
    ("走", "VERB", &["走", "跑", "跳", "唱", "游", "写"]),
    ("古", "NOUN", &["过去", "从前", "古代", "以前", "早年"]),
    ("今", "NOUN", &["现在", "如今", "当代", "目前", "今天"]),
    ("吃", "", &["吃", "喝", "穿", "玩", "买", "学"]),
    ("地", "NOUN", &["山里", "村里", "城里", "海边", "河边", "家里", "镇里", "学校", "市场", "岛屿", "北方", "南方"]),
    ("美", "ADJ", &["勤劳", "年轻", "善良", "普通", "聪明", "快乐", "可爱", "有名"]),
    ("总", "ADV", &["总是", "常常", "每天", "一直", "始终", "依然", "偶尔", "往往"]),
    ("伴", "NOUN", &["朋友", "邻居", "家人", "同学", "客人", "老师"]),
    ("呢", "PART", &["呢", "啊", "呀"]),
    ("兽", "", &["猫", "狗", "兔子", "狐狸", "老虎", "猴子", "山羊", "公鸡", "狼"]),
    ("追", "VERB", &["追", "帮助", "推", "批评", "跟踪", "欢迎"]),
];

/// Members of a class and the tag they share; a name that is no class has no members.
pub(super) fn class(name: &str) -> (&'static str, &'static [&'static str]) {
    CLASSES.iter().find(|&&(of, _, _)| of == name).map_or(("", &[]), |&(_, tag, members)| (tag, members))
}

/// A word of a class, drawn by `dice`, and its tag.
pub(super) fn draw(name: &str, dice: &mut Dice) -> (&'static str, &'static str) {
    let (tag, members) = class(name);
    (dice.pick(members).copied().unwrap_or(""), tag)
}

/// Appends a frame to a draft.
///
/// A frame is words parted by spaces: `word/TAG` stands for itself, anything else is the name of a class and becomes
/// one of its words.
pub(super) fn fill(draft: &mut Draft, frame: &str, dice: &mut Dice) {
    for slot in frame.split_whitespace() {
        match slot.rsplit_once('/') {
            Some((word, tag)) => draft.plain(word, tag),
            None => {
                let (word, tag) = draw(slot, dice);
                draft.plain(word, tag);
            }
        }
    }
}
