//! The case for self-attention, on the embedded corpus: the same small encoder with each way of learning of the others,
//! trained the same way, judged by where the evidence for a word's tag lies.

use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::Sentence;
use qkv_data::builtin::{self, DISTANCE_BUCKETS, Mark, MarkedSentence, distance_bucket};
use qkv_nn::layers::Init;

use crate::error::Result;
use crate::metrics::share;
use crate::recipe::{Average, Mixer, Positions, Recipe, Words};
use crate::tag::{TagTask, Tagger};
use crate::trainer::{self, Observer, Task};

/// One way of learning of the others, to be trained and judged.
#[derive(Clone, Debug)]
pub struct Contestant {
    /// What the table calls it.
    pub name: &'static str,
    /// How it is built and trained.
    pub recipe: Recipe,
}

/// What a contestant reached. Shares are of one.
#[derive(Clone, Debug)]
pub struct DemoResult {
    /// What the table calls it.
    pub name: &'static str,
    /// Numbers in the model.
    pub parameters: usize,
    /// All words of the training sentences.
    pub train: f64,
    /// All words of the test sentences.
    pub overall: f64,
    /// Words with two tags, decided by the words next to them.
    pub homographs: f64,
    /// Words whose sense one word far to the left decides, by distance.
    pub far: [f64; DISTANCE_BUCKETS.len()],
    /// Words whose tag only the order decides.
    pub order: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// The tags it gives to *I saw a saw .*
    pub saw: Vec<String>,
}

/// A sentence with a word whose sense another, far to its left, decides.
#[derive(Clone, Debug)]
pub struct FarExample {
    /// The sentence.
    pub words: Vec<String>,
    /// Which word has two senses.
    pub word: usize,
    /// Which word decides.
    pub cue: usize,
}

/// The lectures' sentence.
pub const SAW: [&str; 5] = ["I", "saw", "a", "saw", "."];

/// The distances that far evidence is reported by, both ends included.
pub const DISTANCES: [(usize, usize); DISTANCE_BUCKETS.len()] = DISTANCE_BUCKETS;

/// The corpus and what no model without context can exceed on it.
#[derive(Debug)]
pub struct Demo {
    corpus: builtin::Corpus,
    train: Vec<Sentence>,
    dev: Vec<Sentence>,
}

impl Default for Demo {
    fn default() -> Self {
        let corpus = builtin::homographs();
        let sentences = |marked: &[MarkedSentence]| marked.iter().map(sentence).collect();
        Self { train: sentences(&corpus.train), dev: sentences(&corpus.dev), corpus }
    }
}

fn sentence(marked: &MarkedSentence) -> Sentence {
    Sentence { labels: Some(marked.tags.clone()), ..Sentence::from_words(marked.words.clone()) }
}

impl Demo {
    /// Sentences and words of the training and the test part.
    pub fn sizes(&self) -> [(usize, usize); 2] {
        [&self.corpus.train, &self.corpus.test].map(|part| (part.len(), part.iter().map(|s| s.words.len()).sum()))
    }

    /// Words of the longest sentence.
    pub fn longest(&self) -> usize {
        let all = self.corpus.train.iter().chain(&self.corpus.test);
        all.map(|sentence| sentence.words.len()).max().unwrap_or(0)
    }

    /// The highest accuracy on homographs for whoever sees one word at a time.
    pub fn ceiling(&self) -> f64 {
        builtin::ceiling_without_context(&self.corpus.test, |mark| mark == Mark::Homograph)
    }

    /// A test sentence whose evidence lies far away, one for each language: for looking at.
    pub fn far_examples(&self) -> Vec<FarExample> {
        let languages = [builtin::Language::English, builtin::Language::Chinese];
        let first = |language| {
            self.corpus.test.iter().filter(|sentence| sentence.language == language).find_map(|sentence| {
                sentence.marks.iter().enumerate().find_map(|(word, mark)| match *mark {
                    Mark::Far { distance } if (6..=9).contains(&distance) => {
                        Some(FarExample { words: sentence.words.clone(), word, cue: word.checked_sub(distance)? })
                    }
                    _ => None,
                })
            })
        };
        languages.into_iter().filter_map(first).collect()
    }

    /// Whoever competes. All but the wide window have as many parameters, give or take a tenth: the width of the fully
    /// connected part makes up for what the mixer needs.
    pub fn contestants(&self, seed: u64) -> Vec<Contestant> {
        let mut base = Recipe::default();
        base.data.train = Some("builtin:homographs".into());
        base.input.words = Words::OneHot;
        base.model.d_model = 64;
        base.model.d_ff = Some(128);
        base.training.seed = seed;
        base.training.epochs = 20;
        base.training.batch_tokens = 500;
        base.training.learning_rate = 4e-3;
        base.training.warmup = 0.1;
        base.training.dropout = 0.0;
        base.training.average = Average::Last;
        base.training.average_count = 4;
        let with = |name, mixer, window, positions| {
            let mut recipe = base.clone();
            (recipe.model.mixer, recipe.model.window, recipe.model.positions) = (mixer, window, positions);
            Contestant { name, recipe }
        };
        let attention = with("self-attention", Mixer::Attention, None, Positions::Sinusoidal);
        let wanted = self.parameters(&attention.recipe);
        let mut all = vec![
            with("none: each word alone", Mixer::None, None, Positions::None),
            with("window of ±2", Mixer::Window, Some(2), Positions::None),
            with("cnn, ±4 in two layers", Mixer::Cnn, Some(2), Positions::None),
            with("rnn, both directions", Mixer::Rnn, None, Positions::None),
            with("self-attention, no positions", Mixer::Attention, None, Positions::None),
            attention,
        ];
        for contestant in &mut all {
            self.match_parameters(&mut contestant.recipe, wanted);
        }
        let mut wide = with("window as wide as a sentence", Mixer::Window, Some(self.longest() - 1), Positions::None);
        wide.recipe.training.learning_rate = 2e-3;
        all.insert(2, wide);
        all
    }

    /// Sets the width of the fully connected part so that the model has as near to `wanted` parameters as can be. Their
    /// number grows in a straight line with that width, so two models tell it for all.
    fn match_parameters(&self, recipe: &mut Recipe, wanted: usize) {
        let mut at = |d_ff: usize| {
            recipe.model.d_ff = Some(d_ff);
            self.parameters(recipe)
        };
        let (low, high) = (at(1), at(2));
        recipe.model.d_ff = Some(1 + wanted.saturating_sub(low) / (high - low));
    }

    fn parameters(&self, recipe: &Recipe) -> usize {
        let task = self.task(recipe).expect("the embedded corpus is good data");
        task.new_model(&Init::new(0, &Device::flex())).num_params()
    }

    fn task(&self, recipe: &Recipe) -> Result<TagTask> {
        TagTask::from_sentences(recipe, &self.train, &self.dev, "builtin:homographs")
    }

    /// Trains a contestant and judges it; the tagger comes along for looking at. `None` if it was stopped.
    ///
    /// # Errors
    /// If training fails.
    pub fn compete(
        &self,
        contestant: &Contestant,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Option<(DemoResult, Tagger)>> {
        let task = self.task(&contestant.recipe)?;
        let outcome = trainer::train(&task, &contestant.recipe, None, stop, observer)?;
        if outcome.interrupted {
            return Ok(None);
        }
        let (parameters, seconds) = (outcome.model.num_params(), outcome.seconds);
        let tagger = task.tagger(outcome.model);
        let train = tally(&tagger, &self.corpus.train);
        let test = tally(&tagger, &self.corpus.test);
        let saw = tagger.predict_words(&SAW.map(String::from));
        let result = DemoResult {
            name: contestant.name,
            parameters,
            train: train.overall.share(),
            overall: test.overall.share(),
            homographs: test.homographs.share(),
            far: test.far.map(Count::share),
            order: test.order.share(),
            seconds,
            saw,
        };
        Ok(Some((result, tagger)))
    }
}

#[derive(Clone, Copy, Default)]
struct Count {
    right: usize,
    all: usize,
}

impl Count {
    fn add(&mut self, right: bool) {
        self.right += usize::from(right);
        self.all += 1;
    }

    fn share(self) -> f64 {
        share(self.right, self.all)
    }
}

#[derive(Default)]
struct Tally {
    overall: Count,
    homographs: Count,
    far: [Count; DISTANCE_BUCKETS.len()],
    order: Count,
}

fn tally(tagger: &Tagger, part: &[MarkedSentence]) -> Tally {
    let sentences: Vec<Sentence> = part.iter().map(sentence).collect();
    let mut tally = Tally::default();
    for (sentence, labels) in part.iter().zip(tagger.predict(&sentences)) {
        for ((tag, label), mark) in sentence.tags.iter().zip(labels).zip(&sentence.marks) {
            let right = tag == label;
            tally.overall.add(right);
            match *mark {
                Mark::Plain => {}
                Mark::Homograph => tally.homographs.add(right),
                Mark::Order => tally.order.add(right),
                Mark::Far { distance } => {
                    if let Some(bucket) = distance_bucket(distance) {
                        tally.far[bucket].add(right);
                    }
                }
            }
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_have_as_many_parameters_give_or_take_a_tenth() {
        let demo = Demo::default();
        let contestants = demo.contestants(1);
        assert_eq!(contestants.len(), 7);
        let wanted = demo.parameters(&contestants[6].recipe) as f64;
        for contestant in &contestants {
            let count = demo.parameters(&contestant.recipe) as f64;
            let wide = contestant.name.starts_with("window as wide");
            assert_eq!((count / wanted - 1.0).abs() > 0.1, wide, "{}: {count} of {wanted}", contestant.name);
        }
    }

    #[test]
    fn what_cannot_be_known_is_not_known() {
        let demo = Demo::default();
        let result = |start: &str| {
            let mut contestant = demo.contestants(3).into_iter().find(|c| c.name.starts_with(start)).expect(start);
            contestant.recipe.training.epochs = 6;
            let outcome = demo.compete(&contestant, &AtomicBool::new(false), &mut ()).expect("training");
            outcome.expect("not stopped").0
        };
        let none = result("none");
        assert_eq!(none.homographs, demo.ceiling());
        assert_eq!(none.saw[1], none.saw[3]);
        assert!(none.overall > 0.9, "{none:?}");
        let window = result("window of");
        assert!(window.homographs > 0.95, "{window:?}");
        assert_eq!(window.far, [0.5; DISTANCE_BUCKETS.len()], "far evidence lies outside the window");
    }

    #[test]
    fn the_cue_of_a_far_example_stands_left_of_its_word() {
        let examples = Demo::default().far_examples();
        assert_eq!(examples.len(), 2);
        assert!(examples.iter().all(|example| example.cue < example.word && example.word < example.words.len()));
    }
}
