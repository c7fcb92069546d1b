//! What a recipe alone can say of whether it can be.

use std::fmt::Write as _;

use super::*;
use crate::stack::has_no_order;

impl Recipe {
    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// Names the key whose value cannot be, and what it may be.
    pub fn check(&self) -> Result<()> {
        let (data, input, model, training) = (&self.data, &self.input, &self.model, &self.training);
        let decoding = &self.decoding;
        let mut wrong = String::new();
        let mut demand = |holds: bool, message: &str| {
            if !holds && wrong.is_empty() {
                let _ = write!(wrong, "{message}");
            }
        };
        let share = |x: f64| (0.0..1.0).contains(&x);
        demand(data.dev_fraction > 0.0 && data.dev_fraction < 1.0, "data.dev_fraction must lie between 0 and 1");
        demand(data.max_tokens > 0, "data.max_tokens must be at least 1");
        demand(input.embedding_dim != Some(0), "input.embedding_dim must be at least 1");
        demand(
            input.embedding_deviation > 0.0 && input.embedding_deviation.is_finite(),
            "input.embedding_deviation must be positive",
        );
        demand(
            input.words == Words::Embedding || input.vectors.is_none(),
            "input.vectors needs input.words = \"embedding\": a one-hot vector has no values to start from",
        );
        demand(
            input.words == Words::Embedding || input.embedding_dim.is_none(),
            "input.embedding_dim needs input.words = \"embedding\"",
        );
        demand(
            input.characters == Characters::None || input.buckets > 0,
            "input.buckets must be at least 1 with input.characters = \"affixes\"",
        );
        demand(model.layers > 0, "model.layers must be at least 1");
        demand((1..=100).contains(&model.members), "model.members must be from 1 to 100");
        demand(model.d_model > 0 && model.d_ff != Some(0), "model.d_model and model.d_ff must be at least 1");
        demand(model.hidden != Some(0), "model.hidden must be at least 1");
        demand(model.max_positions > 0, "model.max_positions must be at least 1");
        demand(model.context > 0, "model.context must be at least 1");
        for (name, size, most) in [
            ("model.layers", Some(model.layers), 1000),
            ("model.d_model", Some(model.d_model), 100_000),
            ("model.d_ff", model.d_ff, 1_000_000),
            ("model.hidden", model.hidden, 100_000),
            ("model.max_positions", Some(model.max_positions), 10_000_000),
            ("model.context", Some(model.context), 10_000_000),
            ("model.relative_range", model.relative_range, 1_000_000),
            ("model.window", model.window, if model.mixer == Mixer::Attention { 1_000_000_000 } else { 10_000 }),
            ("input.embedding_dim", input.embedding_dim, 100_000),
            ("input.prefixes", Some(input.prefixes), 100),
            ("input.suffixes", Some(input.suffixes), 100),
            ("input.buckets", Some(input.buckets), 100_000_000),
            ("input.subwords", Some(input.subwords), 1_000_000),
            ("model.decoder_layers", model.decoder_layers, 1000),
        ] {
            demand(size.is_none_or(|size| size <= most), &format!("{name} must be at most {most}"));
        }
        if model.mixer == Mixer::Attention || model.pooling == Some(Pooling::Attention) {
            demand(
                model.heads > 0 && model.d_model.is_multiple_of(model.heads.max(1)),
                &format!(
                    "model.d_model ({}) must be divisible by model.heads ({}), which must be at least 1",
                    model.d_model, model.heads
                ),
            );
        }
        if model.mixer == Mixer::Attention {
            demand(
                model.positions != Positions::Rotary || (model.d_model / model.heads.max(1)).is_multiple_of(2),
                "model.positions = \"rotary\" needs an even number of elements a head (d_model / heads)",
            );
        } else {
            demand(
                !matches!(model.positions, Positions::Rotary | Positions::Relative),
                "model.positions = \"rotary\" and \"relative\" are told inside attention: choose none, sinusoidal or learned for other mixers",
            );
        }
        demand(training.epochs > 0, "training.epochs must be at least 1");
        demand(training.batch_tokens > 0, "training.batch_tokens must be at least 1");
        demand(training.steps != Some(0), "training.steps must be at least 1");
        demand(decoding.batch_tokens > 0, "decoding.batch_tokens must be at least 1");
        demand((1..=1000).contains(&decoding.beam), "decoding.beam must be from 1 to 1000");
        demand(
            decoding.length_penalty >= 0.0 && decoding.length_penalty.is_finite(),
            "decoding.length_penalty must be a number from 0 on",
        );
        demand(
            decoding.top_p.is_none_or(|share| share > 0.0 && share <= 1.0),
            "decoding.top_p is a share of the probability: above 0, at most 1",
        );
        demand(input.subwords > 0, "input.subwords must be at least 1");
        demand(model.decoder_layers != Some(0), "model.decoder_layers must be at least 1");
        for (key, paths) in [("data.train", &data.train), ("data.dev", &data.dev)] {
            let count = paths.as_ref().map_or(1, |paths| paths.all().len());
            demand((1..=2).contains(&count), &format!("{key} names {count} files: one, or two of parallel text"));
        }
        demand(decoding.max_length > 0, "decoding.max_length must be at least 1");
        demand(decoding.top_k != Some(0), "decoding.top_k must be at least 1");
        demand(
            decoding.temperature >= 0.0 && decoding.temperature.is_finite(),
            "decoding.temperature must be a number from 0 on; 0 takes the likeliest",
        );
        demand(
            training.learning_rate > 0.0 && training.learning_rate.is_finite(),
            "training.learning_rate must be positive",
        );
        demand(share(training.warmup), "training.warmup is a share of all steps: from 0 to less than 1");
        demand(
            training.weight_decay >= 0.0 && training.clip >= 0.0 && training.l2 >= 0.0 && training.l2.is_finite(),
            "training.weight_decay, training.l2 and training.clip must not be negative",
        );
        demand(
            share(training.dropout) && share(training.attention_dropout),
            "training.dropout and training.attention_dropout lie from 0 to less than 1",
        );
        demand(share(training.word_dropout), "training.word_dropout lies from 0 to less than 1");
        demand(share(training.affix_dropout), "training.affix_dropout lies from 0 to less than 1");
        demand(share(training.label_smoothing), "training.label_smoothing lies from 0 to less than 1");
        demand(
            data.train_share > 0.0 && data.train_share <= 1.0,
            "data.train_share is a share of the training part: above 0, at most 1",
        );
        demand(
            (1..=10_000_000).contains(&data.builtin_count),
            "data.builtin_count must be from 1 to ten million examples",
        );
        demand((1..=256).contains(&input.patch), "input.patch must be from 1 to 256 pixels");
        demand(
            input.resize.is_none_or(|sides| sides.iter().all(|side| (1..=8192).contains(side))),
            "input.resize is a height and a width in pixels, each from 1 to 8192",
        );
        demand(
            (1..=4).contains(&input.convolutions) || input.convolutions == 0,
            "input.convolutions must be at most 4",
        );
        demand((1..=100).contains(&input.stack), "input.stack must be from 1 to 100");
        demand((1000..=192_000).contains(&input.rate), "input.rate must be from 1000 to 192000 samples a second");
        demand(
            (1.0..=1000.0).contains(&input.frame_ms) && (0.5..=1000.0).contains(&input.step_ms),
            "input.frame_ms must be from 1 to 1000, and input.step_ms from 0.5",
        );
        demand((1..=512).contains(&input.bands), "input.bands must be from 1 to 512");
        demand(
            input.features != Features::Mfcc || (1..=input.bands).contains(&input.coefficients),
            "input.coefficients must be from 1 to input.bands",
        );
        for (name, value, most) in [
            ("training.speed", training.speed, 0.5),
            ("training.noise", training.noise, 1.0),
            ("training.rotate", training.rotate, 180.0),
            ("training.scale", training.scale, 10.0),
            ("training.brightness", training.brightness, 1.0),
            ("training.erase", training.erase, 1.0),
        ] {
            demand((0.0..=most).contains(&value), &format!("{name} must be from 0 to {most}"));
        }
        demand(training.shift <= 8192, "training.shift must be at most 8192 pixels");
        if let Some([fewest, most]) = data.join {
            demand(
                fewest >= 1 && fewest <= most && most <= 10_000,
                "data.join is the fewest and the most recordings that are joined, as in [1, 8]",
            );
        }
        demand(
            data.join_gap[0] >= 0.0 && data.join_gap[0] <= data.join_gap[1] && data.join_gap[1] <= 60.0,
            "data.join_gap is the shortest and the longest silence in seconds, as in [0.0, 0.3]",
        );
        demand(data.join_count != Some(0), "data.join_count must be at least 1");
        demand(
            data.join_seconds.is_none_or(|seconds| seconds > 0.0 && seconds <= 36_000.0),
            "data.join_seconds must be above 0 and at most 36000",
        );
        demand(training.average_count > 0, "training.average_count must be at least 1");
        demand(training.checkpoint_every > 0, "training.checkpoint_every must be at least 1");
        demand(
            training.precision == "f32",
            &format!("training.precision = \"{}\": this version computes in \"f32\" alone", training.precision),
        );
        if wrong.is_empty() { self.check_task().and_then(|()| self.check_effect()) } else { Err(Error::Recipe(wrong)) }
    }

    /// Checks that the task can be done with what else the recipe says.
    fn check_task(&self) -> Result<()> {
        let (input, model, training) = (&self.input, &self.model, &self.training);
        let refuse = |message: &str| Err(Error::Recipe(message.to_string()));
        let of_words = input.vectors.is_some() || input.characters != Characters::None;
        let target_unit = input.target_unit.unwrap_or(input.unit);
        let recommends = input.unit == Unit::Items;
        if matches!(model.mixer, Mixer::Factors | Mixer::Popularity) && !recommends {
            return refuse(&format!(
                "model.mixer = \"{}\" is for who chose what: set input.unit = \"items\"",
                model.mixer.name()
            ));
        }
        if let Some(metric) = training.metric
            && !model.task.metrics().contains(&metric)
        {
            return refuse(
                &format!("training.metric = \"{metric:?}\" is no metric of model.task = \"{}\"", model.task.name())
                    .to_lowercase(),
            );
        }
        if training.metric == Some(Metric::Ndcg) && !recommends {
            return refuse("training.metric = \"ndcg\" is of what is recommended: set input.unit = \"items\"");
        }
        if training.class_weights != ClassWeights::None && model.task != Task::Classify {
            return refuse("training.class_weights is for model.task = \"classify\": leave it out");
        }
        let of_text = matches!(input.kind, InputKind::Text | InputKind::ImageText);
        if of_words && !of_text {
            return refuse("input.vectors and input.characters are of words, and none come in: leave them out");
        }
        if matches!(input.kind, InputKind::Image | InputKind::ImageText) {
            if model.mixer == Mixer::Attention && model.window.is_some() {
                return refuse(
                    "model.window of attention is a stretch of a line, and patches lie on a grid: leave it out, or choose model.mixer = \"cnn\" or \"window\"",
                );
            }
            if matches!(model.mixer, Mixer::Window | Mixer::Cnn) && model.window.is_some_and(|radius| radius > 20) {
                return refuse("model.window must be at most 20 patches to each side of a picture's");
            }
            if model.positions == Positions::Relative && model.relative_range.is_some_and(|range| range > 100) {
                return refuse("model.relative_range must be at most 100 rows or columns of a picture");
            }
        }
        if self.data.background.is_some() && !(model.task == Task::Tag && input.kind == InputKind::Audio) {
            return refuse(
                "data.background is of frames that get labels: set model.task = \"tag\" and input.kind = \"audio\"",
            );
        }
        if input.kind == InputKind::ImageText && !matches!(model.task, Task::Classify | Task::Regress) {
            return refuse("input.kind = \"image+text\" is answered by model.task = \"classify\" or \"regress\"");
        }
        self.check_sets()?;
        let labels = self.data.labels();
        if self.data.label.is_some() && labels.is_empty() {
            return refuse("data.label names no column: leave it out, or name one");
        }
        if labels.len() > 1 && !matches!(input.kind, InputKind::Molecule | InputKind::Table) {
            return refuse(
                "data.label names several columns, which are learned at once of molecules and tables alone: name one",
            );
        }
        if let Some(twice) = (1..labels.len()).find(|&place| labels[..place].contains(&labels[place])) {
            return refuse(&format!("data.label names `{}` twice: leave one of them out", labels[twice]));
        }
        if self.data.train_share < 1.0 && input.kind == InputKind::Text {
            return refuse("data.train_share is of pictures and recordings: leave it out, and give a shorter file");
        }
        if model.output == Output::Ctc {
            let phones = target_unit == Unit::Phones;
            let fits = match training.metric {
                None | Some(Metric::Loss | Metric::Wer | Metric::ExactMatch) => true,
                Some(Metric::Per) => phones,
                Some(_) => false,
            };
            if !fits {
                return refuse(
                    "training.metric of model.output = \"ctc\" is loss, wer or exact_match, or per where input.unit = \"phones\"",
                );
            }
        }
        if model.output == Output::Ctc && (model.task != Task::Generate || input.kind != InputKind::Audio) {
            return refuse(
                "model.output = \"ctc\" writes what is heard: set model.task = \"generate\" and input.kind = \"audio\"",
            );
        }
        if data_joins(&self.data) && input.kind != InputKind::Audio {
            return refuse("data.join is of recordings: set input.kind = \"audio\"");
        }
        if data_joins(&self.data) && !matches!(model.task, Task::Generate | Task::Tag) {
            return refuse(
                "data.join makes strings, of which what is heard is written or marked: set model.task = \"generate\" or \"tag\"",
            );
        }
        match model.task {
            Task::Regress if training.label_smoothing > 0.0 => refuse(
                "training.label_smoothing is of labels, and model.task = \"regress\" learns numbers: leave it out",
            ),
            Task::Tag if input.kind == InputKind::Image => self.check_pixels(),
            Task::Tag if training.metric == Some(Metric::MeanIou) => {
                refuse("training.metric = \"mean_iou\" is of pixels: set input.kind = \"image\"")
            }
            Task::Tag if matches!(input.kind, InputKind::Molecule | InputKind::Table) => refuse(
                "model.task = \"tag\" is of vectors that have labels each, and neither atoms nor columns come with any: choose classify or regress, or give atoms as input.kind = \"graph\"",
            ),
            Task::Generate
                if matches!(
                    input.kind,
                    InputKind::Graph | InputKind::Molecule | InputKind::Table | InputKind::Vectors
                ) =>
            {
                refuse(
                    "model.task = \"generate\" writes of texts, pictures and recordings; of graphs, molecules, tables and rows of numbers choose tag, classify or regress",
                )
            }
            Task::Tag if matches!(input.kind, InputKind::Audio | InputKind::Graph | InputKind::Vectors) => {
                self.check_each()
            }
            Task::Tag if input.unit != Unit::Words => {
                refuse("model.task = \"tag\" gives labels to words: leave out input.unit")
            }
            Task::Classify | Task::Regress
                if matches!(input.unit, Unit::Phones) || (model.task == Task::Classify && recommends) =>
            {
                refuse("model.task = \"classify\" and \"regress\" read words, characters, bpe or unigram")
            }
            Task::Classify | Task::Regress if of_words && input.unit != Unit::Words => {
                refuse("input.vectors and input.characters are of words: leave them out, or set input.unit = \"words\"")
            }
            Task::Generate
                if model.output != Output::Ctc
                    && !matches!(
                        model.mixer,
                        Mixer::None | Mixer::Attention | Mixer::Rnn | Mixer::Factors | Mixer::Popularity
                    ) =>
            {
                refuse(&format!(
                    "model.mixer = \"{}\" sees what comes after a place, which is what model.task = \"generate\" is to say: choose attention, rnn or none",
                    model.mixer.name()
                ))
            }
            Task::Generate if of_words => refuse(
                "input.vectors and input.characters are for model.task = \"tag\" and \"classify\": leave them out",
            ),
            Task::Generate if input.shared && input.kind != InputKind::Text => {
                refuse("input.shared is of texts on both sides, and what is read is none: leave it out")
            }
            Task::Generate if input.shared && input.unit != target_unit => {
                refuse("input.shared needs the same unit on both sides: leave out input.target_unit, or input.shared")
            }
            Task::Generate if model.tied && input.embedding_dim.is_some_and(|dim| dim != model.d_model) => {
                refuse("model.tied needs embeddings as long as the vectors: leave out input.embedding_dim")
            }
            _ => Ok(()),
        }
    }
}

impl Recipe {
    /// Checks what gives a label to each pixel.
    fn check_pixels(&self) -> Result<()> {
        let refuse = |message: &str| Err(Error::Recipe(message.to_string()));
        if self.input.unit != Unit::Words {
            return refuse("input.unit is of texts, and model.task = \"tag\" of pictures reads none: leave it out");
        }
        if self.model.pooling.is_some() {
            return refuse(
                "model.pooling makes one vector of a picture, and each pixel is to have its label: leave it out",
            );
        }
        if self.training.metric == Some(Metric::F1) {
            return refuse(
                "training.metric = \"f1\" is of words and of whole pictures: of pixels take mean_iou, accuracy or loss",
            );
        }
        Ok(())
    }
}

impl Recipe {
    /// Checks what is of sets without an order.
    fn check_sets(&self) -> Result<()> {
        let (input, model) = (&self.input, &self.model);
        let refuse = |message: &str| Err(Error::Recipe(message.to_string()));
        let of_nodes = matches!(input.kind, InputKind::Graph | InputKind::Molecule);
        if has_no_order(self) {
            if !matches!(model.mixer, Mixer::None | Mixer::Attention) {
                return refuse(
                    "model.mixer = \"window\", \"cnn\" and \"rnn\" go by an order, and nodes, atoms and columns have none: choose attention or none",
                );
            }
            if !matches!(model.positions, Positions::None | Positions::Sinusoidal) {
                return refuse("model.positions tell an order, and nodes, atoms and columns have none: leave it out");
            }
            if model.window.is_some() {
                return refuse(
                    "model.window is a stretch of a line, and nodes, atoms and columns have no order: leave it out",
                );
            }
            if matches!(model.pooling, Some(Pooling::Ends)) {
                return refuse("model.pooling = \"ends\" goes by an order: choose mean or attention");
            }
        }
        if of_nodes && model.pooling == Some(Pooling::Class) {
            return refuse("model.pooling = \"class\" would need edges to all nodes: choose mean or attention");
        }
        if model.pooling == Some(Pooling::SumMean) && model.task == Task::Generate {
            return refuse("model.pooling = \"sum-mean\" makes longer vectors, for classify and regress: choose mean");
        }
        if model.pooling == Some(Pooling::Flat) && input.kind != InputKind::Table {
            return refuse("model.pooling = \"flat\" needs sets of one size, as the columns of a table are");
        }
        if model.score == Score::RankOne && model.block != Block::Bare {
            return refuse("model.score = \"rank-one\" is of bare blocks: set model.block = \"bare\", or choose dot");
        }
        if model.block == Block::Bare {
            if model.task != Task::Tag {
                return refuse(
                    "model.block = \"bare\" is for labels of nodes: set model.task = \"tag\", or leave it out",
                );
            }
            if model.sees != Sees::Edges || model.normalizer != Normalizer::Softmax {
                return refuse(
                    "model.block = \"bare\" is attention along edges with a softmax: leave out model.sees and model.normalizer",
                );
            }
        }
        if model.sees == Sees::Distances && input.kind == InputKind::Graph {
            return refuse("model.sees = \"distances\" is of molecules: choose edges or all");
        }
        if !(1..=100).contains(&model.distances) {
            return refuse("model.distances must be from 1 to 100 edges");
        }
        if input.normalise == Normalise::Recording && matches!(input.kind, InputKind::Graph | InputKind::Vectors) {
            return refuse("input.normalise = \"recording\" is of recordings: choose corpus or none");
        }
        if self.data.split.as_deref() == Some("scaffold") && input.kind != InputKind::Molecule {
            return refuse("data.split = \"scaffold\" is of molecules: choose random, or name a column");
        }
        Ok(())
    }

    /// Checks what gives a label to each of some plain vectors.
    fn check_each(&self) -> Result<()> {
        let refuse = |message: &str| Err(Error::Recipe(message.to_string()));
        if self.input.unit != Unit::Words || self.input.target_unit.is_some() {
            return refuse("input.unit is of texts, and none is read or written here: leave it out");
        }
        if self.model.pooling.is_some() {
            return refuse("model.pooling makes one vector of many, and each is to have its label: leave it out");
        }
        if self.training.metric == Some(Metric::MeanIou) {
            return refuse("training.metric = \"mean_iou\" is of pixels: take accuracy, f1 or loss");
        }
        Ok(())
    }
}

fn data_joins(data: &Data) -> bool {
    data.join.is_some() || data.join_seconds.is_some()
}
