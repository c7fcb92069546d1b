//! `embed`: the vectors that know their context, as a file, or by their neighbours.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qkv_train::embed::{Corpus, Nearest, Neighbour, OneHot, Query, Request, nearest, write_vectors};
use qkv_train::model::{FileKind, Model, Overrides};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::Embed;
use crate::commands::{part_named, print, warn};
use crate::progress::rounded;

pub(crate) fn embed(options: &Embed, stop: &AtomicBool) -> Result<(), Failure> {
    let part = part_named(&options.split)?;
    let model = Model::load(&options.model, &Overrides::default())?;
    let kind = FileKind { format: options.format.as_deref(), encoding: options.encoding.as_deref() };
    if let Some(word) = &options.nearest {
        let corpus = options.corpus.as_deref().map(|source| Corpus { source, part, kind });
        let query = Query { word, count: options.count.get(), layer: options.layer, texts: &options.text, corpus };
        let found = nearest(&model, &query, stop)?;
        return print(&if options.json { to_json(&found).to_string() } else { to_text(&found) });
    }
    let (Some(source), Some(out)) = (&options.data, &options.out) else {
        return Err(Failure::usage("give DATA and --out vectors.npy, or --nearest WORD (--help tells more)"));
    };
    let request = Request { corpus: Corpus { source, part, kind }, layer: options.layer, pooled: options.pooled, out };
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let (start, (examples, tokens)) = (Instant::now(), model.nouns());
    let written = write_vectors(&model, &request, stop, &mut |done, units| {
        let rate = rounded(units as f64 / start.elapsed().as_secs_f64().max(1e-9));
        bar.set_message(format!("{} {examples} · {rate} {tokens} a second", rounded(done as f64)));
        bar.tick();
    });
    bar.finish_and_clear();
    let written = written?;
    warn(&written.warnings);
    let table = out.with_extension("tsv");
    if options.json {
        return print(
            &json!({
                "vectors": out.display().to_string(), "table": table.display().to_string(), "texts": written.texts,
                "rows": written.rows, "d_model": written.d_model, "layer": written.layer,
                "seconds": start.elapsed().as_secs_f64(),
            })
            .to_string(),
        );
    }
    print(&format!(
        "{}: {} rows of {} numbers, layer {}, of {} {examples}; what each row is stands in {}",
        out.display(),
        rounded(written.rows as f64),
        written.d_model,
        written.layer,
        rounded(written.texts as f64),
        table.display(),
    ))
}

fn to_json(found: &Nearest) -> Value {
    let neighbours = |all: &[Neighbour]| all.iter().map(neighbour_json).collect::<Vec<_>>();
    let OneHot { others, cosine, distance } = found.one_hot;
    let after: Vec<Value> = found
        .after
        .iter()
        .map(|occurrence| {
            json!({
                "text": occurrence.place.text, "unit": occurrence.place.unit, "context": occurrence.place.context,
                "cosine_with_first": occurrence.cosine_with_first, "neighbours": neighbours(&occurrence.neighbours),
            })
        })
        .collect();
    json!({
        "word": found.word, "known": found.known,
        "one_hot": { "others": others, "cosine": cosine, "distance": distance },
        "before": neighbours(&found.before), "layer": found.layer, "after": after,
    })
}

fn neighbour_json(neighbour: &Neighbour) -> Value {
    let mut object = json!({ "word": neighbour.word, "cosine": neighbour.cosine });
    if let Some(place) = &neighbour.place {
        object["text"] = place.text.into();
        object["unit"] = place.unit.into();
        object["context"] = place.context.clone().into();
    }
    object
}

fn to_text(found: &Nearest) -> String {
    let word = &found.word;
    let mut text = format!("nearest to {word:?}");
    if !found.known {
        text += ", which the model does not know";
    }
    text += &format!("\n\n{}\n", one_hot_line(found.one_hot));
    text += &format!("\nbefore context, as an embedding, the same wherever {word:?} stands\n");
    text += &table(&found.before);
    for (number, occurrence) in found.after.iter().enumerate() {
        text += &format!("\nafter context (layer {}), in: {}\n", found.layer, occurrence.place.context);
        if number > 0 {
            let cosine = occurrence.cosine_with_first;
            text += &format!("  (its cosine with the first {word:?}: 1.000 before context, {cosine:.3} after)\n");
        }
        text += &table(&occurrence.neighbours);
    }
    if found.after.is_empty() {
        text += &format!("\nafter context: give --text \"a sentence with {word}\", --data FILE to look in, or both");
    }
    text.trim_end().to_string()
}

/// What one-hot vectors know of the other words: nothing.
fn one_hot_line(OneHot { others, cosine, distance }: OneHot) -> String {
    let others = rounded(others as f64);
    if cosine[0] == cosine[1] && distance[0] == distance[1] {
        let (cosine, distance) = (cosine[0], distance[0]);
        return format!("one-hot: the other {others} are all equally far: cosine {cosine}, distance {distance:.4}");
    }
    format!("one-hot: the other {others} lie between cosine {} and {}", cosine[0], cosine[1])
}

fn table(neighbours: &[Neighbour]) -> String {
    let width = neighbours.iter().map(|neighbour| neighbour.word.chars().count()).max().unwrap_or(0);
    let line = |neighbour: &Neighbour| {
        let context = neighbour.place.as_ref().map_or("", |place| &place.context);
        let line = format!("  {:6.3}  {:<width$}  {context}", neighbour.cosine, neighbour.word);
        format!("{}\n", line.trim_end())
    };
    neighbours.iter().map(line).collect()
}
