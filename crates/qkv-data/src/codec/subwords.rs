//! Subwords: the way of a text through the tokenizer, and the tokenizer as it is written.
//!
//! How subwords are learnt is in `train` and `unigram`.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{Lowercase, NFC, NormalizerWrapper, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PostProcessorWrapper, PreTokenizedString,
    PreTokenizer, SplitDelimiterBehavior, TokenizerBuilder, TokenizerImpl,
};

use super::seeds::MAX_PIECE;
use super::{Codec, SPECIAL, Unit};

type Tokenizer = TokenizerImpl<ModelWrapper, Normalizers, PreTokenizers, PostProcessorWrapper, Metaspace>;

/// Stands for the space before a word.
pub(super) const SPACE: char = '▁';

/// Why an `expect` on what a tokenizer answers holds: it has settings of ours alone, and the model was checked.
const NEVER_REFUSED: &str = "a checked model behind settings of ours takes any text";

/// The text that subwords are pieces of.
pub(super) fn joined<'piece>(pieces: impl Iterator<Item = &'piece str>) -> String {
    let mut text = String::new();
    for piece in pieces {
        text.extend(piece.chars().map(|character| if character == SPACE { ' ' } else { character }));
    }
    // The first word has a space before it as well.
    match text.strip_prefix(' ') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// A tokenizer with its model.
#[derive(Debug, Clone)]
pub(super) struct Subwords {
    tokenizer: Tokenizer,
    lowercase: bool,
    /// The characters that are subwords, so that any text of them can be written.
    characters: HashSet<char>,
}

impl Subwords {
    /// A tokenizer with a model whose first ids are [`SPECIAL`] and whose unknown has id 0.
    ///
    /// No special token is made known to the tokenizer: it would find them in what users write.
    pub(super) fn new(model: impl Into<ModelWrapper>, lowercase: bool) -> tokenizers::Result<Self> {
        let model = model.into();
        let replace = |pattern: &str, by: &str| {
            Replace::new(ReplacePattern::Regex(pattern.to_owned()), by).map(NormalizerWrapper::Replace)
        };
        // Lower case first: it may write a letter as two characters that the composed form has one for.
        let mut normalizers: Vec<NormalizerWrapper> = lowercase.then_some(Lowercase.into()).into_iter().collect();
        normalizers.push(NFC.into());
        normalizers.push(replace(&SPACE.to_string(), " ")?);
        normalizers.push(replace("(?m)^ +| +$", "")?);
        normalizers.push(replace(" {2,}", " ")?);
        // The space goes before a text as well, whatever the first character.
        let metaspace = Metaspace::new(SPACE, PrependScheme::Always, true);
        let isolated = SplitDelimiterBehavior::Isolated;
        let space = Split::new(SplitPattern::Regex(r"\s".to_owned()), isolated, false)?;
        let pre_tokenizers: Vec<PreTokenizerWrapper> =
            vec![metaspace.clone().into(), Punctuation::new(isolated).into(), space.into()];
        let characters = model.get_vocab().keys().filter_map(|piece| only_character(piece)).collect();
        let tokenizer = TokenizerBuilder::new()
            .with_model(model)
            .with_normalizer(Some(Normalizers::new(normalizers)))
            .with_pre_tokenizer(Some(PreTokenizers::new(pre_tokenizers)))
            .with_decoder(Some(metaspace))
            .with_post_processor(None)
            .build()?;
        Ok(Self { tokenizer, lowercase, characters })
    }

    pub(super) fn unit(&self) -> Unit {
        match self.tokenizer.get_model() {
            ModelWrapper::Unigram(_) => Unit::Unigram,
            _ => Unit::Bpe,
        }
    }

    pub(super) fn lowercase(&self) -> bool {
        self.lowercase
    }

    /// Every piece, in the order of the ids.
    pub(super) fn pieces(&self) -> Vec<String> {
        let mut pieces: Vec<(String, u32)> = self.tokenizer.get_model().get_vocab().into_iter().collect();
        pieces.sort_unstable_by_key(|&(_, id)| id);
        pieces.into_iter().map(|(piece, _)| piece).collect()
    }

    /// `text` as the model sees it, but for the spaces, which are still spaces.
    pub(super) fn normal(&self, text: &str) -> String {
        self.normalized(text).get().to_owned()
    }

    fn normalized(&self, text: &str) -> NormalizedString {
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = self.tokenizer.get_normalizer() {
            normalizer.normalize(&mut normalized).expect(NEVER_REFUSED);
        }
        normalized
    }

    /// Whether a character of a normal text has an id.
    pub(super) fn knows(&self, character: char) -> bool {
        self.characters.contains(if character == ' ' { &SPACE } else { &character })
    }

    /// Hands the words and marks that `text` is made of, which no subword reaches beyond, to `take`.
    pub(super) fn for_each_word(&self, text: &str, mut take: impl FnMut(&str)) {
        for line in lines(text) {
            let mut split = PreTokenizedString::from(self.normalized(line));
            if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut split).expect(NEVER_REFUSED);
            }
            let words = split.get_splits(OffsetReferential::Normalized, OffsetType::None);
            words.into_iter().skip(begins_with_end(line)).for_each(|(word, _, _)| take(word));
        }
    }

    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        for line in lines(text) {
            let encoding = self.tokenizer.encode_fast(line, false).expect(NEVER_REFUSED);
            ids.extend(&encoding.get_ids()[begins_with_end(line)..]);
        }
        ids
    }

    pub(super) fn to_json(&self) -> Value {
        json!(self.tokenizer)
    }

    /// Reads what [`to_json`](Self::to_json) wrote of subwords by byte pair encoding. What is wrong with it is told in words.
    pub(super) fn read_bpe(value: &Value, lowercase: bool) -> Result<Self, String> {
        Self::new(bpe(&value["model"])?, lowercase).map_err(|error| error.to_string())?.checked(value)
    }

    /// Reads what [`to_json`](Self::to_json) wrote of subwords of the unigram model. What is wrong with it is told in words.
    pub(super) fn read_unigram(value: &Value, lowercase: bool) -> Result<Self, String> {
        Self::new(unigram(&value["model"])?, lowercase).map_err(|error| error.to_string())?.checked(value)
    }

    /// Checks that this is what was read from `value`, without another setting.
    fn checked(self, value: &Value) -> Result<Self, String> {
        match self.to_json() == *value {
            true => Ok(self),
            false => Err("a setting of the tokenizer is not one that is written here".to_owned()),
        }
    }
}

fn bpe(model: &Value) -> Result<BPE, String> {
    #[derive(Deserialize)]
    struct Parts {
        vocab: HashMap<String, u32>,
        merges: Vec<(String, String)>,
    }
    let Parts { vocab, merges } = Parts::deserialize(model).map_err(|error| error.to_string())?;
    let mut pieces: Vec<(&str, u32)> = vocab.iter().map(|(piece, id)| (piece.as_str(), *id)).collect();
    pieces.sort_unstable_by_key(|&(_, id)| id);
    if !pieces.iter().map(|&(_, id)| id).eq(0..vocab.len() as u32) {
        return Err("the ids of the subwords are not 0, 1, 2 and so on".to_owned());
    }
    check_pieces(pieces.iter().map(|&(piece, _)| piece))?;
    // The crate takes for granted that a merge leads to a piece.
    let known = |piece: &str| vocab.contains_key(piece);
    if let Some((first, second)) =
        merges.iter().find(|(first, second)| !(known(first) && known(second) && known(&format!("{first}{second}"))))
    {
        return Err(format!("the merge of {first:?} and {second:?} is not of subwords"));
    }
    let model = json!({ "type": "BPE", "unk_token": SPECIAL[0], "vocab": vocab, "merges": merges });
    BPE::deserialize(&model).map_err(|error| error.to_string())
}

fn unigram(model: &Value) -> Result<Unigram, String> {
    #[derive(Deserialize)]
    struct Parts {
        vocab: Vec<(String, f64)>,
    }
    let Parts { vocab } = Parts::deserialize(model).map_err(|error| error.to_string())?;
    check_pieces(vocab.iter().map(|(piece, _)| piece.as_str()))?;
    // The crate keeps pieces in a tree that is as deep as the longest has bytes, and drops it by recursion.
    if let Some((piece, _)) = vocab.iter().find(|(piece, _)| piece.chars().nth(MAX_PIECE).is_some()) {
        let start: String = piece.chars().take(MAX_PIECE).collect();
        return Err(format!("the subword {start:?}... has more than {MAX_PIECE} characters"));
    }
    if let Some((piece, score)) = vocab.iter().find(|(_, score)| *score > 0.0) {
        return Err(format!("the score of the subword {piece:?}, {score}, is not the logarithm of a probability"));
    }
    Unigram::from(vocab, Some(Codec::UNKNOWN as usize), false).map_err(|error| error.to_string())
}

/// Checks that the pieces begin with the special ones and that none is empty or stands there twice.
fn check_pieces<'piece>(pieces: impl Iterator<Item = &'piece str> + Clone) -> Result<(), String> {
    if !pieces.clone().take(SPECIAL.len()).eq(SPECIAL) {
        return Err(format!("the first subwords are not {}", SPECIAL.join(", ")));
    }
    let mut seen = HashSet::new();
    match pieces.into_iter().find(|piece| piece.is_empty() || !seen.insert(*piece)) {
        Some(piece) => Err(format!("the subword {piece:?} is empty or stands there twice")),
        None => Ok(()),
    }
}

/// The character that `piece` is, if it is one.
fn only_character(piece: &str) -> Option<char> {
    let mut characters = piece.chars();
    characters.next().filter(|_| characters.next().is_none())
}

/// Cuts a text before the end of each line. The tokenizer needs a hundred times the memory of the text in hand; and no word,
/// nor anything that normalisation does, reaches over the end of a line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        // An end that the text begins with was cut off the line before.
        let (line, after) = match text.char_indices().skip(1).find(|&(_, character)| character == '\n') {
            Some((at, _)) => (&text[..at], Some(&text[at..])),
            None => (text, None),
        };
        rest = after;
        Some(line)
    })
}

/// How many words of a line to leave out: the space that is set before the end of the line before, which no text has.
fn begins_with_end(line: &str) -> usize {
    usize::from(line.starts_with('\n'))
}
