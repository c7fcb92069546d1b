//! How long a text may be: what full attention takes grows with the square of it, and nothing is heard of it meanwhile.

use crate::error::{Error, Result};
use crate::recipe::{InputKind, Mixer, Recipe, Sees};

/// Units of a text, each of which looks at all others, at most: 10¹³ operations for each layer and head of 64 numbers, half a minute on
/// two cores.
const MOST: usize = 200_000;

/// Checks that none of some texts is so long that a model without a window would not come to its end. `name` is what messages call
/// their source, of which so many texts stand `before` them.
///
/// # Errors
/// If one is.
pub(crate) fn check_longest(
    recipe: &Recipe,
    name: &str,
    before: usize,
    lengths: impl IntoIterator<Item = usize>,
) -> Result<()> {
    let along_edges =
        matches!(recipe.input.kind, InputKind::Graph | InputKind::Molecule) && recipe.model.sees == Sees::Edges;
    if recipe.model.mixer != Mixer::Attention || recipe.model.window.is_some() || along_edges {
        return Ok(());
    }
    let halvings = if recipe.input.kind == InputKind::Audio { recipe.input.convolutions } else { 0 };
    let mut lengths = lengths.into_iter().map(|length| length >> halvings).enumerate();
    match lengths.find(|(_, length)| *length > MOST) {
        None => Ok(()),
        Some((place, length)) if recipe.input.kind != InputKind::Text => Err(Error::Training(format!(
            "{name}: number {} has {length} vectors, each of which would look at all others, and more than {MOST} take too long: split it, or train with model.window",
            before + place + 1
        ))),
        Some((place, length)) => Err(Error::Training(format!(
            "{name}: text {} has {length} units, each of which would look at all others, and more than {MOST} take too long: split it, or train with model.window",
            before + place + 1
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_attention_has_a_limit_that_windows_and_other_mixers_do_not_have() {
        let mut recipe = Recipe::default();
        assert!(check_longest(&recipe, "x", 0, [0, MOST]).is_ok());
        let told = check_longest(&recipe, "x", 5, [3, MOST + 1]).expect_err("too long").to_string();
        assert!(told.starts_with("x: text 7 has 200001 units"), "{told}");
        recipe.model.window = Some(8);
        assert!(check_longest(&recipe, "x", 0, [MOST + 1]).is_ok());
        (recipe.model.window, recipe.model.mixer) = (None, Mixer::Rnn);
        assert!(check_longest(&recipe, "x", 0, [MOST + 1]).is_ok());
    }
}
