//! Which keys have an effect with which kinds of input and which tasks: a key without one is a mistake, and is told.

use super::*;

/// Keys, when they have an effect, and what they are of.
type Rule = (&'static [&'static str], fn(&Recipe) -> bool, &'static str);

const RULES: &[Rule] = &[
    (
        &[
            "input.rate",
            "input.frame_ms",
            "input.step_ms",
            "input.features",
            "input.bands",
            "input.coefficients",
            "input.stack",
            "input.convolutions",
            "training.time_masks",
            "training.time_mask_frames",
            "training.band_masks",
            "training.band_mask_bands",
            "training.speed",
            "training.noise",
        ],
        |recipe| recipe.input.kind == InputKind::Audio,
        "of recordings: set input.kind = \"audio\"",
    ),
    (
        &[
            "input.patch",
            "input.colour",
            "input.resize",
            "training.shift",
            "training.rotate",
            "training.scale",
            "training.flip",
            "training.brightness",
            "training.erase",
        ],
        |recipe| matches!(recipe.input.kind, InputKind::Image | InputKind::ImageText),
        "of pictures: set input.kind = \"image\"",
    ),
    (
        &[
            "input.words",
            "input.embedding_dim",
            "input.embedding_deviation",
            "input.lowercase",
            "input.subwords",
            "training.word_dropout",
            "training.affix_dropout",
        ],
        |recipe| {
            matches!(recipe.input.kind, InputKind::Text | InputKind::ImageText) || recipe.model.task == Task::Generate
        },
        "of texts, and none is read or written here",
    ),
    (
        &["input.min_count"],
        |recipe| {
            matches!(recipe.input.kind, InputKind::Text | InputKind::ImageText | InputKind::Table)
                || recipe.model.task == Task::Generate
        },
        "of texts and of categories of tables, and none is read or written here",
    ),
    (
        &["input.normalise"],
        |recipe| matches!(recipe.input.kind, InputKind::Audio | InputKind::Graph | InputKind::Vectors),
        "of recordings, of numbers of nodes, and of rows of numbers",
    ),
    (
        &["data.split"],
        |recipe| {
            matches!(recipe.input.kind, InputKind::Graph | InputKind::Molecule | InputKind::Table | InputKind::Vectors)
        },
        "of graphs, molecules, tables and rows of numbers",
    ),
    (
        &["data.ignore"],
        |recipe| matches!(recipe.input.kind, InputKind::Graph | InputKind::Table | InputKind::Vectors),
        "of columns of numbers",
    ),
    (&["data.categories"], |recipe| recipe.input.kind == InputKind::Table, "of tables: set input.kind = \"table\""),
    (
        &["data.series"],
        |recipe| recipe.input.kind == InputKind::Vectors,
        "of rows of numbers: set input.kind = \"vectors\"",
    ),
    (&["data.smiles"], |recipe| recipe.input.kind == InputKind::Molecule, "of molecules"),
    (
        &["data.directed", "data.self_loops", "model.block"],
        |recipe| recipe.input.kind == InputKind::Graph,
        "of graphs: set input.kind = \"graph\"",
    ),
    (
        &["model.sees", "model.distances"],
        |recipe| matches!(recipe.input.kind, InputKind::Graph | InputKind::Molecule),
        "of graphs and molecules",
    ),
    (
        &["model.members"],
        |recipe| matches!(recipe.model.task, Task::Classify | Task::Regress) && recipe.input.unit != Unit::Items,
        "of what gives a label or a number to a whole set: set model.task = \"classify\" or \"regress\"",
    ),
    (
        &["data.names", "data.test_files", "data.dev_files"],
        |recipe| matches!(recipe.input.kind, InputKind::Audio | InputKind::Image | InputKind::ImageText),
        "of files that are an example each, as recordings and pictures are",
    ),
    (
        &["model.decoder_layers", "model.cross", "model.tied", "model.context"],
        |recipe| recipe.model.task == Task::Generate,
        "of what writes: set model.task = \"generate\"",
    ),
    (
        &[
            "decoding.strategy",
            "decoding.beam",
            "decoding.length_penalty",
            "decoding.max_length",
            "decoding.temperature",
            "decoding.top_k",
            "decoding.top_p",
        ],
        |recipe| recipe.model.task == Task::Generate,
        "of how a text is written: set model.task = \"generate\"",
    ),
];

impl Recipe {
    /// Checks that each key that is set has an effect.
    pub(super) fn check_effect(&self) -> Result<()> {
        let (now, default) = (self.to_table(), Self::default().to_table());
        let word = |table: &toml::Table, key: &str| value(table, key).map_or_else(String::new, |word| word.to_string());
        for (keys, has_effect, what) in RULES {
            if has_effect(self) {
                continue;
            }
            if let Some(key) = keys.iter().find(|key| value(&now, key) != value(&default, key)) {
                return Err(Error::Recipe(format!(
                    "{key} has no effect with model.task = {} and input.kind = {}: it is {what}, or leave it out",
                    word(&now, "model.task"),
                    word(&now, "input.kind")
                )));
            }
        }
        Ok(())
    }
}

fn value(table: &toml::Table, key: &str) -> Option<toml::Value> {
    let (name, key) = key.split_once('.')?;
    table.get(name)?.get(key).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(assignments: &[&str]) -> std::result::Result<(), String> {
        let mut recipe = Recipe::default();
        assignments.iter().for_each(|assignment| recipe.set(assignment).expect(assignment));
        recipe.check().map_err(|e| e.to_string())
    }

    #[test]
    fn a_key_without_an_effect_is_told() {
        for (assignments, key) in [
            (&["training.speed=0.1"][..], "training.speed"),
            (&["input.kind=image", "model.task=classify", "training.speed=0.1"], "training.speed"),
            (&["input.kind=audio", "model.task=classify", "training.shift=1"], "training.shift"),
            (&["input.kind=audio", "model.task=classify", "input.lowercase=true"], "input.lowercase"),
            (&["input.kind=table", "model.task=classify", "input.lowercase=true"], "input.lowercase"),
            (&["data.names={label}"], "data.names"),
            (&["decoding.beam=3"], "decoding.beam"),
            (&["model.tied=true"], "model.tied"),
            (&["model.members=3"], "model.members"),
        ] {
            let told = checked(assignments).expect_err(key);
            assert!(told.contains(&format!("{key} has no effect with model.task = ")), "{told}");
        }
        for assignments in [
            &["input.kind=image", "model.task=generate", "input.lowercase=true", "training.shift=1"][..],
            &["input.kind=audio", "model.task=classify", "training.speed=0.1", "data.names={label}_{x}"],
            &["input.kind=table", "model.task=classify", "input.min_count=2"],
            // As it is if nothing is said.
            &["training.speed=0.0", "decoding.beam=1"],
        ] {
            checked(assignments).unwrap_or_else(|told| panic!("{told}"));
        }
    }

    #[test]
    fn every_key_of_a_rule_is_a_key() {
        let known =
            [("data", Data::KEYS), ("input", Input::KEYS), ("model", Model::KEYS), ("training", Training::KEYS)];
        let known = known.into_iter().chain([("decoding", Decoding::KEYS)]);
        let known: Vec<String> =
            known.flat_map(|(table, keys)| keys.iter().map(move |(key, _)| format!("{table}.{key}"))).collect();
        for key in RULES.iter().flat_map(|(keys, _, _)| *keys) {
            assert!(known.iter().any(|name| name == key), "{key}");
        }
    }
}
