//! From files to what the trainer asks of a task.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use qkv::gather::NONE;
use qkv::random::Key;
use qkv_data::builtin::{Part, RecallOptions};
use qkv_data::{LabelledFormat, LabelledOptions, LabelledText, Source, carve, plan_epoch, read_labelled};
use qkv_nn::layers::{Init, Pass};
use qkv_nn::ops::{CrossEntropyOptions, cross_entropy, gather_sum};
use serde_json::{Map, Value, json};

use super::answers::{Answers, Wanted};
use super::judge::{judge, outputs};
use super::model::{ClassifyModel, ClassifySizes};
use super::several;
use crate::error::{Error, Result};
use crate::files;
use crate::input::{Data, Examples, Parting, Reader, Sets, Units, Wants, check_lengths, noun, nouns};
use crate::memory;
use crate::recipe::{ClassWeights, InputKind, Metric, Recipe, Task as Kind, Words};
use crate::run::{Count, Prepared};
use crate::tag::{BYTES_PER_PARAMETER, read_pretrained};
use crate::trainer::{Criterion, Scores, Task};

/// Texts with their labels or numbers, ready to be trained on. An example is the number of one.
#[derive(Debug)]
pub struct ClassifyTask {
    recipe: Recipe,
    reader: Reader,
    parting: Option<Parting>,
    answers: Answers,
    sizes: ClassifySizes,
    train: Sets,
    lengths: Vec<usize>,
    targets: Targets,
    dev: Sets,
    dev_wanted: Wanted,
    warnings: Vec<String>,
}

/// What is wanted of each training text.
#[derive(Debug)]
pub(super) enum Targets {
    /// A label, where labels count so much each; [`NONE`] where there is none.
    Classes { ids: Vec<u32>, weights: Option<Arc<[f32]>> },
    /// A number on the scale of the answers; NaN where there is none.
    Numbers(Vec<f32>),
    /// Each of several, with how many outputs it has.
    Several(Vec<(usize, Targets)>),
}

impl ClassifyTask {
    /// Reads what the recipe names and builds the vocabularies.
    ///
    /// # Errors
    /// If the recipe names no training data, or the data cannot be read, or has too long a text.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        if recipe.input.kind != InputKind::Text {
            return Self::from_prepared(recipe, Reader::prepare(recipe, Wants::Labels)?);
        }
        let train_path = recipe.train_path()?;
        let train = read_labelled(train_path, &labelled_options(recipe, Part::Train)?)?;
        // What the program carries has a dev part of its own.
        let carried = matches!(Source::parse(train_path), Source::Builtin(_));
        if let Some(dev_path) = recipe.dev_path()?.or(carried.then_some(train_path)) {
            let dev = read_labelled(dev_path, &labelled_options(recipe, Part::Dev)?)?;
            return Self::from_texts(recipe, (train_path, &train), (dev_path, &dev));
        }
        let (stay, go) = carve(train.len(), recipe.data.dev_fraction, recipe.training.seed)?;
        let part = |indices: &[usize]| indices.iter().map(|&index| train[index].clone()).collect::<Vec<_>>();
        Self::from_texts(recipe, (train_path, &part(&stay)), (train_path, &part(&go)))
    }

    /// The same from texts in memory, each part with what messages call it.
    ///
    /// # Errors
    /// If there is nothing to be learned from them, or word vectors cannot be read.
    pub fn from_texts(
        recipe: &Recipe,
        (train_name, train): (&str, &[LabelledText]),
        (dev_name, dev): (&str, &[LabelledText]),
    ) -> Result<Self> {
        let units = Units::build(recipe, train.iter().map(|text| text.text.as_str()))
            .map_err(|e| Error::Training(format!("{train_name}: {e}")))?;
        let examples = |name: &str, texts: &[LabelledText]| {
            let sets = Sets::Texts(units.encode(&texts.iter().map(|text| &text.text).collect::<Vec<_>>()));
            Examples::new(texts.to_vec(), sets, name)
        };
        let (train, dev) = (examples(train_name, train), examples(dev_name, dev));
        Self::from_prepared(recipe, Data { reader: Reader::Texts(units), train, dev, parting: None })
    }

    /// The same from examples of any kind.
    ///
    /// # Errors
    /// As for [`ClassifyTask::from_texts`].
    fn from_prepared(recipe: &Recipe, Data { reader, train, dev, parting }: Data) -> Result<Self> {
        let mut recipe = recipe.clone();
        if recipe.model.task == Kind::Regress && recipe.input.kind != InputKind::Text {
            check_numbers(&recipe, &train)?;
            check_numbers(&recipe, &dev)?;
        }
        let answers = Answers::of(recipe.model.task, recipe.data.labels(), &train)?;
        let (wanted, _) = answers.wanted_of(&train)?;
        let (dev_wanted, mut warnings) = answers.wanted_of(&dev)?;
        check_lengths(&recipe, &train)?;
        let mut input = reader.sizes();
        if let (Some(words), Words::Embedding) = (reader.units().and_then(Units::words), recipe.input.words) {
            input.pretrained = read_pretrained(&mut recipe, words)?;
        }
        let sizes = ClassifySizes { input, outputs: answers.outputs() };
        let needed = ClassifyModel::parameter_count(&recipe, &sizes).saturating_mul(BYTES_PER_PARAMETER);
        memory::check(needed, "lower model.d_model, model.d_ff, model.layers or input.buckets")?;
        warnings.extend(train.warnings.iter().chain(&dev.warnings).cloned());
        let count = train.sets.len();
        let (widths, noun) = (answers.widths(), nouns(&recipe).0);
        if let Some(&labels) = widths.iter().find(|&&labels| labels > MANY_LABELS && labels * 4 > count) {
            warnings.insert(0, format!(
                "there are {labels} different labels for {count} {noun}: are the columns swapped, or are they numbers, for model.task = \"regress\"?"
            ));
        }
        if let Some(labels) =
            widths.iter().find(|labels| recipe.training.metric == Some(Metric::RocAuc) && **labels != 2)
        {
            return Err(Error::Training(format!(
                "training.metric = \"roc_auc\" is of two labels, and {} has {labels}: take accuracy or f1",
                train.name
            )));
        }
        let targets = Targets::of(&recipe, &answers, wanted, count);
        // A set without vectors takes its place in a batch as well.
        let lengths = train.sets.lengths().into_iter().map(|length| length.max(1)).collect();
        Ok(Self {
            recipe,
            reader,
            parting,
            answers,
            sizes,
            train: train.sets,
            lengths,
            targets,
            dev: dev.sets,
            dev_wanted,
            warnings,
        })
    }
}

/// Checks that the label of every file is a number.
fn check_numbers(recipe: &Recipe, examples: &Examples) -> Result<()> {
    let is_number = |label: &str| label.parse().is_ok_and(|number: f64| number.is_finite());
    for (place, file) in examples.labelled.iter().enumerate() {
        let of_several =
            examples.targets.get(place).map(|targets| targets.iter().flatten().map(String::as_str).collect());
        let labels: Vec<&str> = of_several.unwrap_or_else(|| vec![file.label.as_deref().unwrap_or_default()]);
        if let Some(label) = labels.into_iter().find(|label| !is_number(label)) {
            return Err(Error::Training(format!(
                "{}: its label {label:?} is not a finite number: label it with one, or train with model.task = \"classify\"",
                examples.place(recipe, file)
            )));
        }
    }
    Ok(())
}

/// So many labels are not unusual, however few the texts.
const MANY_LABELS: usize = 20;

impl Targets {
    /// Of so many examples.
    fn of(recipe: &Recipe, answers: &Answers, wanted: Wanted, count: usize) -> Self {
        match (answers, wanted) {
            (Answers::Numbers(scale), Wanted::Numbers(numbers)) => {
                Self::Numbers(numbers.into_iter().map(|number| scale.standard(number)).collect())
            }
            (_, Wanted::Classes { ids, .. }) => {
                let balanced = recipe.training.class_weights == ClassWeights::Balanced;
                let weights = balanced.then(|| balanced_weights(&ids, answers.outputs()));
                Self::Classes { ids, weights }
            }
            (Answers::Several(targets), Wanted::Several(known)) => {
                let of = |(target, known): (&several::Target, several::Known)| {
                    let some = Self::of(recipe, &target.answers, known.wanted, known.places.len());
                    (target.answers.outputs(), some.spread(&known.places, count))
                };
                Self::Several(targets.iter().zip(known).map(of).collect())
            }
            _ => unreachable!("what is wanted is of the kind of the answers"),
        }
    }

    /// These, of the examples at `places`, as those of all examples, of which the others are without.
    fn spread(self, places: &[usize], count: usize) -> Self {
        fn spread<T: Copy>(values: &[T], places: &[usize], none: T, count: usize) -> Vec<T> {
            let mut all = vec![none; count];
            places.iter().zip(values).for_each(|(&place, &value)| all[place] = value);
            all
        }
        match self {
            Self::Classes { ids, weights } => Self::Classes { ids: spread(&ids, places, NONE, count), weights },
            Self::Numbers(numbers) => Self::Numbers(spread(&numbers, places, f32::NAN, count)),
            Self::Several(_) => unreachable!("targets are of one kind each"),
        }
    }

    /// How many of some examples have a target.
    pub(super) fn known(&self, examples: &[usize]) -> usize {
        let has = |example: &&usize| match self {
            Self::Classes { ids, .. } => ids[**example] != NONE,
            Self::Numbers(numbers) => !numbers[**example].is_nan(),
            Self::Several(_) => true,
        };
        examples.iter().filter(has).count()
    }

    /// What the outputs for `examples` cost: mean cross-entropy, or mean squared error, of those that have a target.
    pub(super) fn loss(&self, outputs: Tensor<2>, examples: &[usize], smoothing: f32) -> Tensor<1> {
        match self {
            Self::Classes { ids, weights } => {
                let targets = examples.iter().map(|&example| ids[example]).collect();
                cross_entropy(outputs, targets, CrossEntropyOptions { smoothing, class_weights: weights.clone() })
            }
            Self::Numbers(numbers) => {
                let targets: Vec<f32> = examples.iter().map(|&example| numbers[example]).collect();
                let known: Vec<u32> =
                    (0_u32..).zip(&targets).filter(|(_, x)| !x.is_nan()).map(|(row, _)| row).collect();
                let outputs = match known.len() == targets.len() {
                    true => outputs,
                    false => gather_sum(outputs, known.clone().into(), 1),
                };
                let targets: Vec<f32> = known.iter().map(|&row| targets[row as usize]).collect();
                let targets = TensorData::new(targets, [known.len(), 1]);
                let errors = outputs.clone() - Tensor::from_data(targets, &outputs.device());
                (errors.clone() * errors).mean()
            }
            Self::Several(targets) => several::loss(targets, &outputs, examples, smoothing),
        }
    }

    /// All of them, for a fingerprint.
    fn add_content(&self, content: &mut Vec<u8>) {
        match self {
            Self::Classes { ids, .. } => content.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
            Self::Numbers(numbers) => content.extend(numbers.iter().flat_map(|x| x.to_le_bytes())),
            Self::Several(targets) => targets.iter().for_each(|(_, targets)| targets.add_content(content)),
        }
    }
}

/// `examples / (classes · examples of the class)`: each class then counts as much as any other, and a text 1 on average.
fn balanced_weights(ids: &[u32], classes: usize) -> Arc<[f32]> {
    let mut counts = vec![0_usize; classes];
    ids.iter().for_each(|&id| counts[id as usize] += 1);
    let all = ids.len() as f64;
    counts.iter().map(|&count| (all / (classes as f64 * count.max(1) as f64)) as f32).collect()
}

/// How the recipe's files are read, or the part `part` of what the program carries.
pub(super) fn labelled_options(recipe: &Recipe, part: Part) -> Result<LabelledOptions> {
    let data = &recipe.data;
    let format = data.format.as_deref().map(str::parse::<LabelledFormat>).transpose();
    Ok(LabelledOptions {
        format: format.map_err(|e| Error::Recipe(e.to_string()))?,
        text: data.text.clone(),
        label: data.one_label().map(str::to_string),
        encoding: data.encoding.clone(),
        part,
        recall: RecallOptions { train: data.builtin_count, ..RecallOptions::default() },
        ..LabelledOptions::default()
    })
}

impl Prepared for ClassifyTask {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn counts(&self) -> Vec<Count> {
        let (examples, _) = nouns(&self.recipe);
        let mut counts = vec![Count { name: examples, title: examples, number: self.train.len() }];
        if let Some(units) = self.reader.units() {
            let noun = noun(&self.recipe);
            counts.push(Count { name: noun, title: noun, number: units.known() });
        }
        match &self.answers {
            Answers::Classes(labels) => counts.push(Count { name: "labels", title: "labels", number: labels.len() }),
            Answers::Several(targets) => {
                counts.push(Count { name: "targets", title: "targets", number: targets.len() })
            }
            Answers::Numbers(_) => {}
        }
        counts
    }

    fn tokens(&self) -> [usize; 2] {
        [self.train.tokens(), self.dev.tokens()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        vocab_json(&self.reader, &self.answers, self.parting.as_ref())
    }
}

/// The content of `vocab.json`.
fn vocab_json(reader: &Reader, answers: &Answers, parting: Option<&Parting>) -> Vec<u8> {
    let mut object = Map::new();
    for part in [reader.to_json(), answers.to_json()] {
        if let Value::Object(part) = part {
            object.extend(part);
        }
    }
    if let Some(parting) = parting {
        object.insert("parting".into(), json!(parting));
    }
    serde_json::to_vec(&object).expect("names and numbers")
}

impl Task for ClassifyTask {
    type Model = ClassifyModel;
    type Example = usize;

    fn new_model(&self, init: &Init) -> ClassifyModel {
        ClassifyModel::new(&self.recipe, &self.sizes, init)
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let training = &self.recipe.training;
        plan_epoch(&self.lengths, training.batch_tokens, training.seed, epoch as u64)
    }

    fn length(&self, example: &usize) -> usize {
        self.lengths[*example]
    }

    fn loss(&self, model: &ClassifyModel, examples: &[usize], key: Key) -> Tensor<1> {
        let training = &self.recipe.training;
        let batch = self.train.training_batch(examples, training, key);
        // Each member learns as if it were alone; the mean of their losses is what is told.
        let pass = Pass::training(key);
        let loss = |outputs| self.targets.loss(outputs, examples, training.label_smoothing as f32);
        let sum = model.forward_each(&batch, &pass).map(loss).reduce(|sum, loss| sum + loss);
        let sum = sum.expect("there is a first member");
        let members = self.recipe.model.members;
        if members == 1 { sum } else { sum / members as f64 }
    }

    fn evaluate(&self, model: &ClassifyModel) -> Scores {
        let outputs = outputs(model, &self.dev, self.answers.outputs(), self.recipe.decoding.batch_tokens);
        let reached = judge(&outputs, &self.answers, &self.dev_wanted);
        Scores { loss: reached.loss, metrics: reached.metrics }
    }

    fn criterion(&self) -> Criterion {
        match (self.recipe.training.metric, self.recipe.model.task) {
            (Some(Metric::Loss), _) => Criterion::Lowest("loss"),
            // Errors of several targets have units of their own, and the loss has none.
            (None, Kind::Regress) if matches!(self.answers, Answers::Several(_)) => Criterion::Lowest("loss"),
            (_, Kind::Regress) => Criterion::Lowest("rmse"),
            (Some(Metric::F1), _) => Criterion::Highest("f1"),
            (Some(Metric::RocAuc), _) => Criterion::Highest("roc_auc"),
            _ => Criterion::Highest("accuracy"),
        }
    }

    fn fingerprint(&self) -> String {
        let mut content = self.vocab_json();
        content.extend(self.train.content());
        content.extend(self.dev.content());
        self.targets.add_content(&mut content);
        self.dev_wanted.add_content(&mut content);
        content.extend(self.sizes.input.pretrained.iter().flatten().flat_map(|x| x.to_le_bytes()));
        files::hash(&content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_classes_count_alike_and_texts_one_on_average() {
        let ids = [0, 0, 0, 1, 2, 2];
        let weights = balanced_weights(&ids, 3);
        let sum_of = |class: u32| ids.iter().filter(|&&id| id == class).count() as f32 * weights[class as usize];
        assert_eq!([0, 1, 2].map(sum_of), [2.0; 3]);
    }

    fn texts(count: usize, label: impl Fn(usize) -> String) -> Vec<LabelledText> {
        let text = |i: usize| LabelledText {
            text: format!("word{} and more", i % 3),
            label: Some(label(i)),
            line: i + 1,
            group: None,
        };
        (0..count).map(text).collect()
    }

    fn prepare(assignments: &[&str], train: &[LabelledText], dev: &[LabelledText]) -> Result<ClassifyTask> {
        let mut recipe = Recipe::default();
        for assignment in ["model.task=classify", "model.d_model=8", "model.heads=2"].iter().chain(assignments) {
            recipe.set(assignment).expect(assignment);
        }
        ClassifyTask::from_texts(&recipe, ("train.txt", train), ("dev.txt", dev))
    }

    #[test]
    fn a_text_beyond_the_limit_is_named() {
        let (train, dev) = (texts(9, |i| (i % 2).to_string()), texts(2, |i| i.to_string()));
        let error = prepare(&["data.max_tokens=2"], &train, &dev).expect_err("three words").to_string();
        assert!(
            error.starts_with("train.txt:1: ") && error.contains("3 words, more than data.max_tokens = 2"),
            "{error}"
        );
        prepare(&["data.max_tokens=3"], &train, &dev).expect("as long as it may be");
    }

    #[test]
    fn nearly_as_many_labels_as_texts_are_told() {
        let train = texts(60, |i| (i / 2).to_string());
        let task = prepare(&[], &train, &train).expect("labels");
        assert!(task.warnings[0].contains("30 different labels for 60 texts"), "{:?}", task.warnings);
        assert!(prepare(&[], &texts(60, |i| (i % 3).to_string()), &train).expect("labels").warnings.len() > 3);
    }

    #[test]
    fn a_change_of_the_data_is_a_change_of_the_fingerprint() {
        let (train, dev) = (texts(9, |i| (i % 2).to_string()), texts(2, |i| i.to_string()));
        let print =
            |train: &[LabelledText], dev: &[LabelledText]| prepare(&[], train, dev).expect("task").fingerprint();
        let before = print(&train, &dev);
        assert_eq!(before, print(&train, &dev));
        let swapped = |texts: &[LabelledText]| {
            let mut texts = texts.to_vec();
            let label = texts[0].label.take();
            texts[0].label = texts[1].label.take();
            texts[1].label = label;
            texts
        };
        assert_ne!(before, print(&swapped(&train), &dev), "labels");
        assert_ne!(before, print(&train, &swapped(&dev)), "dev labels");
        let mut shorter = train.clone();
        shorter[0].text = "and".into();
        assert_ne!(before, print(&shorter, &dev), "texts");
    }

    #[test]
    fn what_decides_is_what_was_asked_for() {
        let (train, dev) = (texts(9, |i| (i % 2).to_string()), texts(2, |i| i.to_string()));
        for (assignments, wanted) in [
            (&[][..], Criterion::Highest("accuracy")),
            (&["training.metric=f1"], Criterion::Highest("f1")),
            (&["training.metric=loss"], Criterion::Lowest("loss")),
            (&["model.task=regress"], Criterion::Lowest("rmse")),
            (&["model.task=regress", "training.metric=loss"], Criterion::Lowest("loss")),
        ] {
            assert_eq!(prepare(assignments, &train, &dev).expect("task").criterion(), wanted);
        }
    }
}
