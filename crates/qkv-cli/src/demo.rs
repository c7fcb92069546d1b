//! `demo`: trains the contestants, prints the table, writes the page.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use qkv_train::demo::{DISTANCES, Demo, DemoResult, SAW};
use qkv_train::files::{make_folder, write_atomically};
use qkv_train::tag::Tagger;
use qkv_view::{AttentionPage, AttentionPicture, HeadWeights, LayerWeights, Table, heatmap_svg};
use serde_json::json;

use crate::Failure;
use crate::arguments;
use crate::commands::print;
use crate::progress::{Display, duration};

pub(crate) fn demo(options: &arguments::Demo, stop: &AtomicBool) -> Result<(), Failure> {
    let start = Instant::now();
    // Before the work, so that a folder that cannot be written to is not found out after it.
    make_folder(&options.out)?;
    let demo = Demo::default();
    let mut results = Vec::new();
    let mut attention = None;
    for contestant in demo.contestants(options.seed) {
        let mut display = Display::new(contestant.name, false);
        let outcome = demo.compete(&contestant, stop, &mut display);
        display.finish();
        let Some((result, tagger)) = outcome? else { return Err(Failure::new("stopped; nothing was written")) };
        display.line(&format!("{:<30} {} parameters, {}", result.name, result.parameters, duration(result.seconds)));
        results.push(result);
        attention = Some(tagger);
    }
    let Some(tagger) = attention else { return Ok(()) };
    let page = write_page(&options.out, &demo, &results, &tagger)?;
    if options.json {
        let rows: Vec<_> = results.iter().map(row_json).collect();
        return print(
            &json!({ "ceiling_without_context": demo.ceiling(), "results": rows,
                     "seconds": start.elapsed().as_secs_f64(), "page": page })
            .to_string(),
        );
    }
    let text = |table: Table| table.to_text().map_err(|e| Failure::new(e.to_string()));
    let [(train_sentences, train_words), (test_sentences, test_words)] = demo.sizes();
    print(&format!(
        "Train: {train_sentences} sentences, {train_words} words. Test: {test_sentences} others, {test_words} words.\n\
         Accuracy in percent. Without context nobody can exceed {:.1} on homographs: half of them are the one, half the other.\n\n\
         {}\n{}\n{}\nThe attention of each head: {page} ({} in all)",
        100.0 * demo.ceiling(),
        text(main_table(&results))?,
        text(saw_table(&results))?,
        what_to_see(&results),
        duration(start.elapsed().as_secs_f64()),
    ))
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn main_table(results: &[DemoResult]) -> Table {
    let mut header: Vec<String> = ["mixer", "parameters", "train", "test", "homographs"].map(String::from).to_vec();
    header.extend(DISTANCES.iter().map(|(low, high)| format!("far {low}-{high}")));
    header.extend(["order", "seconds"].map(String::from));
    let rows = results
        .iter()
        .map(|r| {
            let mut row = vec![r.name.to_string(), r.parameters.to_string(), percent(r.train), percent(r.overall)];
            row.push(percent(r.homographs));
            row.extend(r.far.iter().map(|share| percent(*share)));
            row.extend([percent(r.order), format!("{:.1}", r.seconds)]);
            row
        })
        .collect();
    Table { header, rows }
}

fn saw_table(results: &[DemoResult]) -> Table {
    let mut header = vec!["mixer".to_string()];
    header.extend(SAW.map(String::from));
    let rows =
        results.iter().map(|r| std::iter::once(r.name.to_string()).chain(r.saw.iter().cloned()).collect()).collect();
    Table { header, rows }
}

fn row_json(r: &DemoResult) -> serde_json::Value {
    let far: serde_json::Map<String, serde_json::Value> =
        DISTANCES.iter().zip(r.far).map(|((low, high), share)| (format!("{low}-{high}"), share.into())).collect();
    json!({
        "mixer": r.name, "parameters": r.parameters, "train": r.train, "test": r.overall,
        "homographs": r.homographs, "far": far, "order": r.order, "seconds": r.seconds, "i_saw_a_saw": r.saw,
    })
}

/// What the figures say, in words that follow from them.
fn what_to_see(results: &[DemoResult]) -> String {
    let find = |start: &str| results.iter().find(|r| r.name.starts_with(start));
    let mut lines = String::from("What to see:\n");
    let mut say = |text: String| {
        lines.push_str("- ");
        lines.push_str(&text);
        lines.push('\n');
    };
    if let Some(none) = find("none") {
        let same = none.saw.get(1) == none.saw.get(3);
        say(format!(
            "each word alone: {} % on homographs; the two saws of \"I saw a saw\" get {}.",
            percent(none.homographs),
            if same { "the same tag, as they must" } else { "different tags, which cannot be" }
        ));
    }
    if let Some(window) = find("window of") {
        let far = window.far.iter().sum::<f64>() / window.far.len() as f64;
        say(format!(
            "a small window: {} % on homographs, whose evidence is near, but {} % where it is far.",
            percent(window.homographs),
            percent(far)
        ));
    }
    if let (Some(wide), Some(attention)) = (find("window as wide"), results.last()) {
        say(format!(
            "a window as wide as the longest sentence: {:.1} times the parameters and {:.1} times the seconds of self-attention, {} % on training sentences, {} % on far evidence at {} words or more.",
            wide.parameters as f64 / attention.parameters.max(1) as f64,
            wide.seconds / attention.seconds.max(1e-9),
            percent(wide.train),
            percent(wide.far[wide.far.len() - 1]),
            DISTANCES[DISTANCES.len() - 1].0,
        ));
    }
    if let (Some(blind), Some(attention)) = (find("self-attention, no"), results.last()) {
        say(format!(
            "order: self-attention without positions {} %, with them {} %.",
            percent(blind.order),
            percent(attention.order)
        ));
    }
    if let (Some(rnn), Some(attention)) = (find("rnn"), results.last()) {
        say(format!(
            "far evidence at {} words or more: the RNN {} %, self-attention {} %.",
            DISTANCES[DISTANCES.len() - 1].0,
            percent(rnn.far[rnn.far.len() - 1]),
            percent(attention.far[attention.far.len() - 1]),
        ));
    }
    lines
}

/// Writes `attention.html` and `attention.svg`; returns the path of the page.
fn write_page(out: &Path, demo: &Demo, results: &[DemoResult], tagger: &Tagger) -> Result<String, Failure> {
    let broken = |e: qkv_view::ViewError| Failure::new(e.to_string());
    let mut pictures = vec![picture(tagger, "I saw a saw".to_string(), SAW.map(String::from).to_vec())];
    let mut portrait = None;
    for example in demo.far_examples() {
        let (word, cue) = (&example.words[example.word], &example.words[example.cue]);
        let picture = picture(tagger, format!("“{cue}” decides what “{word}” means"), example.words.clone());
        if portrait.is_none() {
            let (layer, head) = head_that_looks(&picture, example.word, example.cue);
            portrait = Some(heatmap_svg(&picture, layer, head).map_err(broken)?);
        }
        pictures.push(picture);
    }
    let page = AttentionPage {
        title: "What each head of self-attention looks at".into(),
        intro: vec![
            "A model of two layers with four heads each, trained by the demo on its embedded corpus.".into(),
            "Rows are queries, columns are keys: the stronger the colour, the more of that key's value goes into the row's new vector.".into(),
        ],
        tables: vec![
            ("Accuracy in percent".into(), main_table(results)),
            ("The tags of \"I saw a saw\"".into(), saw_table(results)),
        ],
        pictures,
    };
    let path = out.join("attention.html");
    write_atomically(&path, page.to_html().map_err(broken)?.as_bytes())?;
    if let Some(svg) = portrait {
        write_atomically(&out.join("attention.svg"), svg.as_bytes())?;
    }
    Ok(path.display().to_string())
}

fn picture(tagger: &Tagger, heading: String, words: Vec<String>) -> AttentionPicture {
    let tags = tagger.predict_words(&words);
    let layers = tagger.attention_weights(&words);
    let layers = layers.into_iter().map(|(heads, weights)| {
        let size = words.len();
        let heads = weights.chunks_exact((size * size).max(1)).take(heads);
        LayerWeights { heads: heads.map(|weights| HeadWeights { size, weights: weights.to_vec() }).collect() }
    });
    AttentionPicture { heading, note: String::new(), layers: layers.collect(), tags: Some(tags), words, gold: None }
}

/// Layer and head in which `word` gives `cue` the greatest weight: the one worth a picture of its own.
fn head_that_looks(picture: &AttentionPicture, word: usize, cue: usize) -> (usize, usize) {
    let mut best = (0, 0, f32::NEG_INFINITY);
    for (l, layer) in picture.layers.iter().enumerate() {
        for (h, head) in layer.heads.iter().enumerate() {
            let weight = head.weights.get(word * head.size + cue).copied().unwrap_or_default();
            if weight > best.2 {
                best = (l, h, weight);
            }
        }
    }
    (best.0, best.1)
}
