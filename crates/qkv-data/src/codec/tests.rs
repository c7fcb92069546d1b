use std::process::Command;

use proptest::prelude::*;

use super::*;

/// The units that are subwords.
const SUBWORDS: [Unit; 2] = [Unit::Bpe, Unit::Unigram];

fn trained(unit: Unit, size: usize, texts: &[&str]) -> Codec {
    let options = CodecOptions { unit, size, ..CodecOptions::default() };
    Codec::train(texts.iter().copied(), &options).unwrap()
}

/// Sentences of words that share their parts, enough for subwords to be worth learning.
fn sentences(count: usize) -> Vec<String> {
    const STEMS: [&str; 8] = ["Haus", "garten", "läuf", "spiel", "Sofa", "brücke", "see", "hund"];
    const ENDS: [&str; 6] = ["", "en", "er", "t", "chen", "s"];
    // A linear congruential generator; its high bits are random enough.
    let mut state = 7_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut word = || {
        let compound = if draw(3) == 0 { STEMS[draw(STEMS.len())] } else { "" };
        format!("{compound}{}{}", STEMS[draw(STEMS.len())], ENDS[draw(ENDS.len())])
    };
    let sentence = |index: usize| (0..4 + index % 5).map(|_| word()).collect::<Vec<_>>().join(" ") + ".";
    (0..count).map(sentence).collect()
}

fn trained_on_sentences(unit: Unit) -> Codec {
    let sentences = sentences(300);
    let texts: Vec<&str> = sentences.iter().map(String::as_str).collect();
    trained(unit, 150, &texts)
}

fn looks(codec: &Codec, text: &str) -> Vec<String> {
    codec.encode(text).into_iter().map(|id| codec.unit_text(id).unwrap().to_owned()).collect()
}

#[test]
fn units_have_names() {
    for unit in Unit::ALL {
        assert_eq!(unit.to_string().parse::<Unit>().unwrap(), unit);
        assert_eq!(serde_json::to_value(unit).unwrap(), unit.name());
    }
    let message = "bep".parse::<Unit>().unwrap_err().to_string();
    assert_eq!(message, "unknown unit \"bep\"; did you mean bpe? known are words, characters, bpe, unigram");
}

#[test]
fn words_are_what_stands_between_spaces() {
    let codec = trained(Unit::Words, 0, &["I_JUMP I_TURN_LEFT", "I_JUMP\tEY1 don't."]);
    assert_eq!((codec.unit(), codec.len(), codec.is_empty()), (Unit::Words, 7, false));
    // By falling count, then by spelling.
    assert_eq!(looks(&codec, "I_JUMP EY1 I_TURN_LEFT  don't."), ["I_JUMP", "EY1", "I_TURN_LEFT", "don't."]);
    assert_eq!(codec.encode(" don't.\nI_JUMP jump"), [6, 3, Codec::UNKNOWN]);
    assert_eq!(codec.decode(&[Codec::BEGIN, 6, 3, Codec::UNKNOWN, 99, Codec::END]), "don't. I_JUMP <unk> <unk>");
    let special = [0, 1, 2, 7].map(|id| codec.unit_text(id));
    assert_eq!(special, [Some("<unk>"), Some("<s>"), Some("</s>"), None]);
}

#[test]
fn characters_are_every_char() {
    let codec = trained(Unit::Characters, 0, &["ab\n", "b c"]);
    assert_eq!(looks(&codec, "c b\na"), ["c", " ", "b", "\n", "a"]);
    assert_eq!(codec.encode("\n a"), [3, 4, 5]);
    assert_eq!(codec.decode(&[1, 5, 4, 4, 3, 0, 8, 2]), "a  \n⁇⁇");
    assert_eq!((codec.unit_text(0), codec.len()), (Some("⁇"), 8));
}

#[test]
fn rare_units_are_unknown_and_case_is_folded_where_asked() {
    for (unit, text, expected) in [(Unit::Words, "A a B", "a a <unk>"), (Unit::Characters, "AaB", "aa⁇")] {
        let options = CodecOptions { unit, min_count: 2, lowercase: true, ..CodecOptions::default() };
        let codec = Codec::train([text], &options).unwrap();
        assert_eq!(codec.decode(&codec.encode(text)), expected);
    }
    for unit in SUBWORDS {
        let options = CodecOptions { unit, size: 50, lowercase: true, ..CodecOptions::default() };
        let codec = Codec::train(["Ein Haus, EIN HAUS. É"], &options).unwrap();
        assert_eq!(codec.encode("ein haus é"), codec.encode("EIN Haus E\u{301}"));
        assert_eq!(codec.decode(&codec.encode("Ein HAUS")), "ein haus");
        assert!(codec.unknown("EIN HAUS").is_empty());
    }
}

#[test]
fn subwords_begin_with_the_space_and_punctuation_stands_alone() {
    for unit in SUBWORDS {
        let codec = trained(unit, 60, &["Sofa. Sofa Sofa! (Sofa) Sofa", "ein Sofa.", "ein, ein ein"]);
        assert_eq!(codec.unit(), unit);
        assert_eq!(looks(&codec, "Sofa."), ["▁Sofa", "."]);
        assert_eq!(looks(&codec, "ein (Sofa"), ["▁ein", "▁", "(", "Sofa"]);
        assert_eq!(codec.decode(&codec.encode("  ein   (Sofa) ")), "ein (Sofa)");
        assert_eq!(codec.decode(&[Codec::BEGIN, Codec::UNKNOWN, Codec::END]), "⁇");
        let special = [0, 1, 2].map(|id| codec.unit_text(id));
        assert_eq!(special, [Some("⁇"), Some("<s>"), Some("</s>")]);
    }
}

#[test]
fn subwords_of_unseen_words_give_them_back() {
    for unit in SUBWORDS {
        let codec = trained_on_sentences(unit);
        assert!(codec.len() <= 150 && codec.len() > 100, "{}", codec.len());
        let text = "Sofagarten läufthund spielerbrücke seen.";
        let ids = codec.encode(text);
        assert_eq!(codec.decode(&ids), text);
        // Far fewer than characters, or nothing was learnt.
        assert!(ids.len() < text.chars().count() * 2 / 3, "{:?}", looks(&codec, text));
        assert!(!ids.contains(&Codec::UNKNOWN));
    }
}

#[test]
fn special_spellings_in_a_text_are_text() {
    let text = "<s> a </s> <unk> <s> </s> <unk> <s></s><unk>";
    for unit in Unit::ALL {
        for training in ["<s> </s> <unk> a <s></s><unk>", "< s a / u n k > <unkn> <ss>"] {
            let codec = trained(unit, 60, &[training, training, training]);
            let ids = codec.encode(text);
            assert!(!ids.contains(&Codec::BEGIN) && !ids.contains(&Codec::END), "{unit}: {ids:?}");
            if unit != Unit::Words {
                assert_eq!(codec.decode(&ids), text);
            }
        }
    }
    let words = trained(Unit::Words, 0, &["<s> a <s>"]);
    assert_eq!(words.encode("<s> <unk> a"), [3, Codec::UNKNOWN, 4]);
}

#[test]
fn unusual_texts_pass() {
    let training = "a b  🙂 👩\u{200d}👧 e\u{301} x\u{301}\u{323} ß . ab ab 花花\t\u{a0}\r\n";
    let long = "ab".repeat(10_000);
    for unit in SUBWORDS {
        let codec = trained(unit, 100, &[training, &long]);
        for (text, expected) in [
            ("", ""),
            ("   ", ""),
            ("\n", "\n"),
            ("\n\n a\n", "\n\na\n"),
            (" a \n  b ", "a\nb"),
            ("a\tb\u{a0}🙂\r\n", "a\tb\u{a0}🙂\r\n"),
            ("👩\u{200d}👧🙂", "👩\u{200d}👧🙂"),
            ("e\u{301}", "é"),
            ("x\u{323}\u{301}", "x\u{323}\u{301}"),
            ("a▁b ▁ a", "a b a"),
            ("花ab花.花", "花ab花.花"),
            (&long, &long),
        ] {
            let ids = codec.encode(text);
            assert!(!ids.contains(&Codec::UNKNOWN), "{text:?}");
            assert_eq!(codec.decode(&ids), expected);
        }
        let unknown = "z".repeat(5000);
        assert!(codec.encode(&unknown).contains(&Codec::UNKNOWN));
        assert!(codec.decode(&codec.encode("az")).starts_with("a⁇"));
    }
    for unit in [Unit::Words, Unit::Characters] {
        let codec = trained(unit, 0, &[training, &long]);
        assert!(codec.encode("").is_empty());
        assert_eq!(codec.decode(&codec.encode(&long)), long);
        assert_eq!(codec.decode(&codec.encode("👩\u{200d}👧")), "👩\u{200d}👧");
    }
    assert!(trained(Unit::Words, 0, &["a"]).encode(" \n\t ").is_empty());
}

#[test]
fn what_is_unknown_is_told_with_its_line_and_count() {
    let unknown = |text: &str, line, count| UnknownUnit { text: text.to_owned(), line, count };
    let words = trained(Unit::Words, 0, &["a b"]);
    assert_eq!(words.unknown("a c\nd a c\nd c"), [unknown("c", 1, 3), unknown("d", 2, 2)]);
    let characters = trained(Unit::Characters, 0, &["ab"]);
    assert_eq!(characters.unknown("ab\nba c\n"), [unknown("\n", 1, 2), unknown(" ", 2, 1), unknown("c", 2, 1)]);
    for unit in SUBWORDS {
        let codec = trained(unit, 50, &["ab ab\nab"]);
        assert_eq!(codec.unknown("  ab\nbacé c"), [unknown("c", 2, 2), unknown("é", 2, 1)]);
        assert_eq!(codec.unknown("ab e\u{301} "), [unknown("é", 1, 1)]);
        assert_eq!(codec.unknown(" ab\n\n"), []);
    }
}

#[test]
fn size_bounds_the_ids_and_the_rarest_characters_go_first() {
    for unit in SUBWORDS {
        let sentences = sentences(100);
        let mut texts: Vec<&str> = sentences.iter().map(String::as_str).collect();
        texts.push("xyz XYZ 0123456789");
        for size in [5, 6, 17, 60] {
            let codec = trained(unit, size, &texts);
            assert!(codec.len() <= size, "{} ids of {size}", codec.len());
        }
        let codec = trained(unit, 20, &texts);
        assert!(codec.unknown("en es").is_empty());
        assert_eq!(codec.unknown("e0Y").len(), 2);
    }
}

#[test]
fn nothing_to_learn_from_is_an_error() {
    for unit in Unit::ALL {
        let options = CodecOptions { unit, min_count: 2, ..CodecOptions::default() };
        let texts: &[&str] = if unit == Unit::Words { &[" ", "a b"] } else { &["", ""] };
        let message = Codec::train(texts.iter().copied(), &options).unwrap_err().to_string();
        assert!(message.starts_with("the training texts: ") && message.ends_with("; are they the right files?"));
        assert!(!message.contains('\n'));
    }
    for (unit, size) in SUBWORDS.into_iter().flat_map(|unit| [0, 4, 1_000_001, usize::MAX].map(|size| (unit, size))) {
        let options = CodecOptions { unit, size, ..CodecOptions::default() };
        let message = Codec::train(["a"], &options).unwrap_err().to_string();
        assert!(message.ends_with("ids of subwords are out of range; give 5 to 1000000"), "{message}");
    }
}

#[test]
fn a_codec_survives_json() {
    let text = "Hundegarten läuft\tz <s>.\n";
    for unit in Unit::ALL {
        let codec = trained_on_sentences(unit);
        let json = codec.to_json().to_string();
        let read = Codec::from_json(&serde_json::from_str(&json).unwrap()).unwrap();
        assert_eq!(read.to_json().to_string(), json);
        assert_eq!((read.unit(), read.len()), (unit, codec.len()));
        assert_eq!(read.encode(text), codec.encode(text));
        assert_eq!(read.texts, codec.texts);
    }
}

/// What lies in model directories must be read by every later version.
#[test]
fn written_codecs_stay_readable() {
    let frame = r##""version":"1.0","truncation":null,"padding":null,"added_tokens":[],
        "normalizer":{"type":"Sequence","normalizers":[{"type":"Lowercase"},{"type":"NFC"},
            {"type":"Replace","pattern":{"Regex":"▁"},"content":" "},
            {"type":"Replace","pattern":{"Regex":"(?m)^ +| +$"},"content":""},
            {"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]},
        "pre_tokenizer":{"type":"Sequence","pretokenizers":[
            {"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},
            {"type":"Punctuation","behavior":"Isolated"},
            {"type":"Split","pattern":{"Regex":"\\s"},"behavior":"Isolated","invert":false}]},
        "post_processor":null,
        "decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"##;
    let bpe = r#"{"type":"BPE","dropout":null,"unk_token":"<unk>","continuing_subword_prefix":null,
        "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
        "vocab":{"<unk>":0,"<s>":1,"</s>":2,"▁":3,"a":4,"▁a":5},"merges":[["▁","a"]]}"#;
    let unigram = r#"{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["<s>",0.0],["</s>",0.0],
        ["▁a",-0.693147],["a",-1.5],["▁",-2.0],["aa",-2.5]],"byte_fallback":false}"#;
    let subwords = |unit: &str, model: &str| {
        format!(r#"{{"unit":"{unit}","lowercase":true,"tokenizer":{{{frame},"model":{model}}}}}"#)
    };
    for (json, text, expected) in [
        (r#"{"unit":"words","vocabulary":{"lowercase":true,"words":["<unk>","a"]}}"#.to_owned(), "A b", &[3, 0][..]),
        (r#"{"unit":"characters","lowercase":false,"characters":["A","a"]}"#.to_owned(), "aAb", &[4, 3, 0]),
        (subwords("bpe", bpe), "A aa", &[5, 5, 4]),
        (subwords("unigram", unigram), "A aaa bba", &[3, 3, 6, 5, 0, 4]),
    ] {
        let codec = Codec::from_json(&serde_json::from_str(&json).unwrap()).unwrap();
        assert_eq!(codec.encode(text), expected, "{json}");
    }
}

/// Every value within `value`, by its path.
fn paths(value: &Value, path: &str, into: &mut Vec<String>) {
    into.push(path.to_owned());
    match value {
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| paths(value, &format!("{path}/{index}"), into));
        }
        Value::Object(values) => {
            values.iter().for_each(|(key, value)| paths(value, &format!("{path}/{}", key.replace('/', "~1")), into));
        }
        _ => {}
    }
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    for unit in Unit::ALL {
        let json = trained(unit, 40, &["ab aba, ab abab", "ab, ab"]).to_json();
        let mut all = Vec::new();
        paths(&json, "", &mut all);
        assert!(all.len() > 5);
        for path in all {
            for other in [json!(null), json!(0), json!(-3.5), json!("abababab"), json!([]), json!({}), json!(true)] {
                let mut damaged = json.clone();
                *damaged.pointer_mut(&path).unwrap() = other;
                // Some damage leaves a codec that could have been: another character, word or score.
                match Codec::from_json(&damaged) {
                    Ok(codec) => _ = codec.decode(&codec.encode("ab <s> abababab, z")),
                    Err(error) => assert!(error.to_string().starts_with("codec: it is damaged: "), "{error}"),
                }
            }
        }
    }
}

#[test]
fn damage_is_told() {
    let damaged = |unit, damage: &dyn Fn(&mut Value)| {
        let mut json = trained(unit, 40, &["ab aba, ab abab", "ab, ab"]).to_json();
        damage(&mut json);
        let message = Codec::from_json(&json).unwrap_err().to_string();
        assert!(!message.contains('\n') && message.ends_with("; restore the model directory, or train again"));
        message
    };
    let message = damaged(Unit::Bpe, &|json| json["tokenizer"]["model"]["vocab"]["ab"] = json!(77));
    assert!(message.contains("the ids of the subwords are not 0, 1, 2"), "{message}");
    let message = damaged(Unit::Bpe, &|json| json["tokenizer"]["model"]["merges"][0] = json!(["▁ab", "▁ab"]));
    assert!(message.contains("the merge of \"▁ab\" and \"▁ab\" is not of subwords"), "{message}");
    let message = damaged(Unit::Bpe, &|json| json["tokenizer"]["model"]["dropout"] = json!(0.5));
    assert!(message.contains("a setting of the tokenizer"), "{message}");
    let message = damaged(Unit::Bpe, &|json| json["lowercase"] = json!(true));
    assert!(message.contains("a setting of the tokenizer"), "{message}");
    let message = damaged(Unit::Bpe, &|json| json["unit"] = json!("characters"));
    assert!(message.contains("damaged: unknown field `tokenizer`"), "{message}");
    let message = damaged(Unit::Bpe, &|json| json["tokenizer"]["model"]["unk_token"] = json!("a"));
    assert!(message.contains("a setting of the tokenizer"), "{message}");
    let message = damaged(Unit::Bpe, &|json| {
        let vocab = json["tokenizer"]["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove("<s>").unwrap();
        vocab.insert("x".to_owned(), id);
    });
    assert!(message.contains("the first subwords are not <unk>, <s>, </s>"), "{message}");
    for (vocab, told) in [
        (json!([["<unk>", 0.0], ["<s>", 0.0], ["a", -1.0]]), "the first subwords are not <unk>, <s>, </s>"),
        (json!([["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0], ["", -1.0]]), "the subword \"\" is empty"),
        (json!([["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0], ["a", -1.0], ["a", -2.0]]), "or stands there twice"),
        (json!([["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0], ["a", 0.5]]), "the score of the subword \"a\", 0.5, is"),
        (
            json!([["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0], ["a".repeat(1_000_000), -1.0]]),
            "the subword \"aaaaaaaaaaaaaaaa\"... has more than 16 characters",
        ),
        (json!([["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0]]), "a setting of the tokenizer"),
    ] {
        let message = damaged(Unit::Unigram, &|json| json["tokenizer"]["model"]["vocab"] = vocab.clone());
        assert!(message.contains(told), "{message}");
    }
    for (setting, value) in [("unk_id", json!(1)), ("unk_id", json!(null)), ("byte_fallback", json!(true))] {
        let message = damaged(Unit::Unigram, &|json| json["tokenizer"]["model"][setting] = value.clone());
        assert!(message.contains("a setting of the tokenizer"), "{message}");
    }
    let message = damaged(Unit::Unigram, &|json| json["unit"] = json!("bpe"));
    assert!(message.contains("invalid type: sequence, expected a map"), "{message}");
    let message = damaged(Unit::Words, &|json| json["unit"] = json!("syllables"));
    assert!(message.contains("unknown variant `syllables`"), "{message}");
    let message = damaged(Unit::Words, &|json| json["other"] = json!(1));
    assert!(message.contains("unknown field `other`"), "{message}");
}

#[test]
fn the_same_texts_give_the_same_ids_with_any_number_of_threads() {
    for unit in SUBWORDS {
        let expected = trained_on_sentences(unit).to_json();
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| trained_on_sentences(unit)).to_json() == expected, "{threads} threads");
        }
    }
}

/// A codec of each kind of subwords, in one line.
fn written_subwords() -> String {
    json!(SUBWORDS.map(|unit| trained_on_sentences(unit).to_json())).to_string()
}

#[test]
#[ignore = "the process that the next test starts"]
fn a_codec_is_printed() {
    println!("codec {}", written_subwords());
}

#[test]
fn the_same_texts_give_the_same_ids_in_every_process() {
    let printed = |threads: &str, parallel: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "codec::tests::a_codec_is_printed", "--ignored", "--nocapture"]);
        command.env("RAYON_NUM_THREADS", threads).env("TOKENIZERS_PARALLELISM", parallel);
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        printed.lines().find_map(|line| line.split_once("codec ")).map(|(_, json)| json.to_owned())
    };
    let expected = Some(written_subwords());
    for (threads, parallel) in [("1", "true"), ("4", "true"), ("4", "false")] {
        assert!(printed(threads, parallel) == expected, "{threads} threads, parallel {parallel}");
    }
}

/// Sorting the ends of words like these has its pitfalls.
#[test]
fn words_that_repeat_themselves_are_learnt_from() {
    for text in [".aAa Aa", "a", "aaaa", "aAaAaAa AaAaAa", "abab.abab abab", "\0a\0 \0a"] {
        for size in [5, 7, 20] {
            let codec = trained(Unit::Unigram, size, &[text, text]);
            let ids = codec.encode(text);
            assert!(codec.len() <= size && !ids.is_empty());
            assert!(size < 20 || codec.decode(&ids) == text, "{text:?}");
        }
    }
}

#[test]
fn order_of_the_texts_does_not_matter() {
    let sentences = sentences(200);
    for unit in Unit::ALL {
        let options = CodecOptions { unit, size: 120, ..CodecOptions::default() };
        let forwards = Codec::train(sentences.iter().map(String::as_str), &options).unwrap();
        let backwards = Codec::train(sentences.iter().rev().map(String::as_str), &options).unwrap();
        assert!(forwards.to_json() == backwards.to_json(), "{unit}");
    }
}

#[test]
fn many_threads_encode_what_one_does() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let sentences = sentences(500);
    for unit in Unit::ALL {
        let codec = trained_on_sentences(unit);
        is_shared(&codec);
        let one: Vec<Vec<u32>> = sentences.iter().map(|text| codec.encode(text)).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        assert_eq!(pool.install(|| codec.encode_many(&sentences)), one);
    }
}

#[test]
fn a_text_of_many_lines_is_encoded_as_one() {
    for unit in SUBWORDS {
        let codec = trained(unit, 60, &["Haus am\nHaus am See\n\nam See", "am Haus"]);
        assert_eq!(looks(&codec, "am \n\n  Haus\nam"), looks_after("▁am", &codec, &["\n\nHaus", "\nam"]));
        let lines = "Haus am See\n".repeat(1000);
        assert_eq!(codec.decode(&codec.encode(&lines)), lines);
    }
}

/// `first`, and then the units of `others`.
fn looks_after(first: &str, codec: &Codec, others: &[&str]) -> Vec<String> {
    let others = others.iter().flat_map(|text| looks(codec, text));
    std::iter::once(first.to_owned()).chain(others).collect()
}

/// What decoding gives back of a text: composed characters, and no spaces but one between words.
fn normal(text: &str) -> String {
    let lines = text.replace("e\u{301}", "é").replace('▁', " ");
    let words = |line: &str| line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    lines.split('\n').map(words).collect::<Vec<_>>().join("\n")
}

fn texts() -> impl Strategy<Value = String> {
    const PARTS: [&str; 17] =
        ["a", "b", "er", "é", "e\u{301}", "ß", " ", "  ", "\n", "\t", ".", "!", "▁", "🙂", "<s>", "花", "1"];
    prop::collection::vec(prop::sample::select(&PARTS[..]), 0..30).prop_map(|parts| parts.concat())
}

/// A codec of unigram subwords: these pieces with these scores.
fn unigram(pieces: &[(String, f64)]) -> Codec {
    let mut json = trained(Unit::Unigram, 50, &["a"]).to_json();
    let special = SPECIAL.map(|special| json!([special, 0.0]));
    json["tokenizer"]["model"]["vocab"] = special.into_iter().chain(pieces.iter().map(|piece| json!(piece))).collect();
    Codec::from_json(&json).unwrap()
}

/// The likeliest way to cut `word`. Of equally likely ones, that whose last piece is longest, and so on for the rest.
fn likeliest(word: &str, pieces: &[(String, f64)]) -> Vec<u32> {
    let characters: Vec<char> = word.chars().collect();
    let known: HashMap<Vec<char>, (u32, f64)> =
        (Codec::FIRST..).zip(pieces).map(|(id, (piece, score))| (piece.chars().collect(), (id, *score))).collect();
    // As far below the least likely piece as unknown characters are.
    let unknown = pieces.iter().map(|&(_, score)| score).fold(0.0, f64::min) - 10.0;
    let longest = known.keys().map(Vec::len).max().unwrap();
    let mut best = vec![(0.0, Codec::UNKNOWN, 0)];
    for end in 1..=characters.len() {
        let ways = (end.saturating_sub(longest)..end).filter_map(|start| match known.get(&characters[start..end]) {
            Some(&(id, score)) => Some((best[start].0 + score, id, start)),
            None if start + 1 == end => Some((best[start].0 + unknown, Codec::UNKNOWN, start)),
            None => None,
        });
        let likelier = |a: (f64, u32, usize), b: (f64, u32, usize)| if b.0 > a.0 { b } else { a };
        best.push(ways.reduce(likelier).unwrap());
    }
    let mut ids = Vec::new();
    let mut place = characters.len();
    while place > 0 {
        ids.push(best[place].1);
        place = best[place].2;
    }
    // Unknown characters side by side are one unknown.
    ids.dedup_by(|a, b| *a == Codec::UNKNOWN && *b == Codec::UNKNOWN);
    ids.reverse();
    ids
}

proptest! {
    #[test]
    fn unigram_subwords_are_the_likeliest(
        pieces in prop::collection::btree_map("[▁aé花🙂]{1,4}", prop::sample::select(&[-1.0, -2.0, -2.5, -4.0, -7.25][..]), 1..30),
        word in "[aé花🙂bc]{1,20}|[aé]{250,300}|[aéb]{3000}",
    ) {
        // A piece of one character for each, or an unknown could be part of a known one.
        let mut pieces = pieces;
        let characters: Vec<char> = pieces.keys().flat_map(|piece| piece.chars()).collect();
        characters.into_iter().for_each(|c| _ = pieces.entry(c.to_string()).or_insert(-9.0));
        let pieces: Vec<(String, f64)> = pieces.into_iter().collect();
        let codec = unigram(&pieces);
        let expected = likeliest(&format!("▁{word}"), &pieces);
        prop_assert_eq!(codec.encode(&word), &expected[..]);
        // And again, from what was remembered.
        prop_assert_eq!(codec.encode(&word), expected);
    }

    #[test]
    fn subwords_give_every_text_back(training in prop::collection::vec(texts(), 1..4), text in texts()) {
        for unit in SUBWORDS {
            // All the characters there are, so that none is unknown.
            let codec = trained(unit, 60, &[&training.concat(), "aber é ß 🙂 <s> 花1. !\t\n"]);
            let ids = codec.encode(&text);
            prop_assert!(ids.iter().all(|&id| id >= Codec::FIRST && (id as usize) < codec.len()));
            prop_assert_eq!(codec.decode(&ids), normal(&text));
            prop_assert!(codec.unknown(&text).is_empty());
        }
    }

    #[test]
    fn characters_give_every_text_back(text in "\\PC{1,40}") {
        let codec = trained(Unit::Characters, 0, &[&text]);
        prop_assert_eq!(codec.decode(&codec.encode(&text)), text);
    }

    #[test]
    fn anything_is_learnt_from_and_encoded(training in "[a-cA .\n]{1,30}|\\PC{1,60}", text in "\\PC{0,60}", size in 5_usize..80) {
        for unit in SUBWORDS {
            let options = CodecOptions { unit, size, ..CodecOptions::default() };
            if let Ok(codec) = Codec::train([training.as_str()], &options) {
                prop_assert!(codec.len() <= size);
                prop_assert!(codec.encode(&text).iter().all(|&id| (id as usize) < codec.len()));
                let known = !codec.encode(&training).contains(&Codec::UNKNOWN);
                prop_assert_eq!(codec.unknown(&training).is_empty(), known);
            }
        }
    }
}
