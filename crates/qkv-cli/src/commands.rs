//! `train`, `evaluate`, `predict` and `info`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qkv_train::Recipe;
use qkv_train::metrics::mean_and_deviation;
use qkv_train::model_dir::ModelDir;
use qkv_train::recipe::TABLES;
use qkv_train::run::{Report, check_folder, estimate, run};
use qkv_train::tag::{FileKind, Part, Style, Tagger};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::{Evaluate, Info, Predict, Train};
use crate::progress::{Display, duration, rounded};

/// The recipe that file, flags and `--set` give together; what is said later wins.
fn recipe(options: &Train) -> Result<Recipe, Failure> {
    let mut recipe = match &options.recipe {
        Some(path) => Recipe::read(path)?,
        None => Recipe::default(),
    };
    let flags = [
        ("--task", "model.task", options.task.as_deref().map(quoted)),
        ("--input", "input.kind", options.input.as_deref().map(quoted)),
        ("--train", "data.train", options.train.as_deref().map(quoted)),
        ("--dev", "data.dev", options.dev.as_deref().map(quoted)),
        ("--format", "data.format", options.format.as_deref().map(quoted)),
        ("--encoding", "data.encoding", options.encoding.as_deref().map(quoted)),
        ("--precision", "training.precision", options.precision.as_deref().map(quoted)),
        ("--epochs", "training.epochs", options.epochs.map(|number| number.to_string())),
        ("--seed", "training.seed", options.seed.map(|number| number.to_string())),
    ];
    for (flag, key, value) in flags {
        let Some(value) = value else { continue };
        let assignment = format!("{key}={value}");
        // The user is told of what the user wrote.
        let told = |e: qkv_train::Error| Failure {
            message: e.to_string().replace(&format!("`--set {assignment}`"), &format!("`{flag} {value}`")),
            status: e.exit_status(),
        };
        recipe.set(&assignment).map_err(told)?;
    }
    for assignment in &options.set {
        recipe.set(assignment)?;
    }
    recipe.check()?;
    Ok(recipe)
}

/// A flag's value as TOML, so that a path with odd characters stays one.
fn quoted(value: &str) -> String {
    Value::from(value).to_string()
}

pub(crate) fn train(options: &Train, stop: &AtomicBool) -> Result<(), Failure> {
    let recipe = recipe(options)?;
    let Some(out) = &options.out else { return Err(Failure::usage("--out MODEL is needed: where the model goes")) };
    let count = options.runs.get();
    // TOML holds no higher number than this.
    let last_seed = recipe.training.seed.checked_add(count as u64 - 1).filter(|&seed| i64::try_from(seed).is_ok());
    if last_seed.is_none() {
        return Err(Failure::usage(format!("--runs {count}: there are not so many seeds; give a smaller --seed")));
    }
    // All folders first: the last should not be found impossible when the other runs are done.
    for number in 0..count as u64 {
        check_folder(&one_of(&recipe, out, number, count).1, options.resume)?;
    }
    let mut results = Vec::new();
    for number in 0..count as u64 {
        let (recipe, folder, name) = one_of(&recipe, out, number, count);
        let report = train_once(&recipe, &folder, &name, options.resume, stop)?;
        if let Report::Trained { interrupted: true, best, .. } = &report {
            let kept = if best.is_some() { "the best model so far" } else { "the model as it stands" };
            return Err(Failure::new(format!(
                "stopped; {kept} is in {}, and the same command with --resume goes on",
                folder.display()
            )));
        }
        results.push((folder, report));
    }
    show_training(&results, options.json)
}

/// The recipe, the folder and the name of run `number` of `count`.
fn one_of(recipe: &Recipe, out: &Path, number: u64, count: usize) -> (Recipe, PathBuf, String) {
    let mut recipe = recipe.clone();
    recipe.training.seed += number;
    match count {
        1 => (recipe, out.to_path_buf(), String::new()),
        _ => {
            let name = format!("seed-{}", recipe.training.seed);
            (recipe, out.join(&name), name)
        }
    }
}

fn train_once(recipe: &Recipe, out: &Path, name: &str, resume: bool, stop: &AtomicBool) -> Result<Report, Failure> {
    let mut display = Display::new(name, true);
    let report = run(recipe, out, resume, stop, &mut display, &mut warn);
    display.finish();
    Ok(report?)
}

fn warn(warnings: &[String]) {
    const MOST: usize = 5;
    for warning in warnings.iter().take(MOST) {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    if warnings.len() > MOST {
        let _ = writeln!(std::io::stderr(), "warning: … and {} more of the kind", warnings.len() - MOST);
    }
}

fn show_training(results: &[(PathBuf, Report)], as_json: bool) -> Result<(), Failure> {
    let mut objects = Vec::new();
    let mut scores = Vec::new();
    for (folder, report) in results {
        match report {
            Report::AlreadyFinished { metric, score } => {
                scores.push(*score);
                objects
                    .push(json!({ "model": folder.display().to_string(), "already_finished": true, *metric: score }));
                if !as_json {
                    let folder = folder.display();
                    print(&format!("{folder} is finished already; nothing was changed: dev {metric} {score:.4}"))?;
                }
            }
            Report::Trained { best, metric, parameters, seconds, .. } => {
                let score = best.as_ref().map_or(f64::NAN, |best| best.score);
                let epoch = best.as_ref().map_or(0, |best| best.epoch);
                scores.push(score);
                objects.push(json!({
                    "model": folder.display().to_string(), "metric": metric, *metric: score, "best_epoch": epoch,
                    "parameters": parameters, "seconds": seconds,
                }));
                if !as_json {
                    let (folder, time) = (folder.display(), duration(*seconds));
                    print(&format!("{folder}: dev {metric} {score:.4} (epoch {epoch}), {time}"))?;
                }
            }
        }
    }
    if results.len() == 1 {
        return if as_json { print(&objects.remove(0).to_string()) } else { Ok(()) };
    }
    let (mean, deviation) = mean_and_deviation(&scores);
    if as_json {
        return print(&json!({ "mean": mean, "deviation": deviation, "runs": objects }).to_string());
    }
    print(&format!("{} runs: mean {mean:.4}, standard deviation {deviation:.4}", scores.len()))
}

pub(crate) fn dry_run(options: &Train) -> Result<(), Failure> {
    let recipe = recipe(options)?;
    let estimate = estimate(&recipe)?;
    warn(&estimate.warnings);
    let [words, labels, train_tokens, dev_tokens] = estimate.counts;
    if options.json {
        return print(
            &json!({
                "words": words, "labels": labels, "train_tokens": train_tokens, "dev_tokens": dev_tokens,
                "parameters": estimate.parameters, "seconds": estimate.seconds, "peak_memory": estimate.peak_memory,
            })
            .to_string(),
        );
    }
    let memory = estimate.peak_memory.map_or("unknown".into(), |bytes| format!("{:.0} MiB", bytes as f64 / 1048576.0));
    print(&format!(
        "recipe and data are in order\n\
         known words  {words}\nlabels       {labels}\ntrain        {} vectors\ndev          {} vectors\n\
         parameters   {}\ntime         about {} for {} epochs\nmemory       about {memory}",
        rounded(train_tokens as f64),
        rounded(dev_tokens as f64),
        rounded(estimate.parameters as f64),
        duration(estimate.seconds),
        recipe.training.epochs,
    ))
}

pub(crate) fn evaluate(options: &Evaluate) -> Result<(), Failure> {
    let part = match options.split.as_str() {
        "train" => Part::Train,
        "dev" => Part::Dev,
        "test" => Part::Test,
        other => return Err(Failure::usage(format!("--split {other}: expected train, dev or test"))),
    };
    let tagger = Tagger::load(&options.model)?;
    let kind = FileKind { format: options.format.as_deref(), encoding: options.encoding.as_deref() };
    let result = tagger.evaluate(&options.data, part, kind)?;
    warn(&result.warnings);
    let speed = result.tokens as f64 / result.seconds.max(1e-9);
    if options.json {
        let mut object = json!({
            "task": "tag", "examples": result.examples, "tokens": result.tokens, "seconds": result.seconds,
            "accuracy": result.accuracy, "loss": result.loss,
        });
        if let (Some(entities), Some(object)) = (result.entities, object.as_object_mut()) {
            object.insert("f1".into(), entities.f1().into());
            object.insert("precision".into(), entities.precision().into());
            object.insert("recall".into(), entities.recall().into());
        }
        return print(&object.to_string());
    }
    let mut text = format!(
        "examples   {}\nwords      {}\naccuracy   {:.4}\nloss       {:.4}\n",
        rounded(result.examples as f64),
        rounded(result.tokens as f64),
        result.accuracy,
        result.loss,
    );
    if let Some(entities) = result.entities {
        text += &format!(
            "f1         {:.4}  (precision {:.4}, recall {:.4}; {} of {} entities)\n",
            entities.f1(),
            entities.precision(),
            entities.recall(),
            entities.right,
            entities.wanted,
        );
    }
    text += &format!("seconds    {:.2}  ({} words a second)", result.seconds, rounded(speed));
    print(&text)
}

pub(crate) fn predict(options: &Predict, stop: &AtomicBool) -> Result<(), Failure> {
    let tagger = Tagger::load(&options.model)?;
    let style = if options.json { Style::Json } else { Style::Same };
    let kind = FileKind { format: options.format.as_deref(), encoding: options.encoding.as_deref() };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let watch = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
    let bar = watch.then(|| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar
    });
    let start = Instant::now();
    let done = tagger.predict_stream(&options.data, kind, style, &mut out, stop, &mut |done| {
        if let Some(bar) = &bar {
            let rate = done.words as f64 / start.elapsed().as_secs_f64().max(1e-9);
            let (sentences, rate) = (rounded(done.sentences as f64), rounded(rate));
            bar.set_message(format!("{sentences} sentences · {rate} words a second"));
            bar.tick();
        }
    });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let done = done?;
    if done.replaced > 0 && done.replaced_known == 0 {
        warn(&[format!(
            "none of the labels that stood in {} is one of this model's: was it this column, and this file, that should be filled?",
            options.data
        )]);
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::new(format!("stopped after {} sentences", done.sentences)));
    }
    if done.sentences == 0 {
        warn(&[format!("{}: there is no sentence in it", options.data)]);
    }
    Ok(())
}

pub(crate) fn info(options: &Info) -> Result<(), Failure> {
    let dir = ModelDir::open(&options.model)?;
    let (config, metrics) = (dir.config(), dir.metrics()?);
    let bytes: usize = config.files.values().map(|file| file.bytes).sum();
    if options.json {
        let recipe = serde_json::to_value(&config.recipe).map_err(|e| Failure::new(e.to_string()))?;
        return print(
            &json!({
                "task": config.task, "program": config.program, "finished": config.finished,
                "parameters": config.parameters, "bytes": bytes, "recipe": recipe, "metrics": metrics,
            })
            .to_string(),
        );
    }
    let mut text = format!(
        "{}\ntask         {}\nwritten by   {}\nfinished     {}\nparameters   {}\nsize         {:.1} MiB\n",
        options.model.display(),
        config.task,
        config.program,
        if config.finished { "yes" } else { "no: --resume goes on" },
        rounded(config.parameters as f64),
        bytes as f64 / 1048576.0,
    );
    for (name, value) in metrics.as_object().into_iter().flatten() {
        if let Some(number) = value.as_f64() {
            let number = if value.is_u64() { format!("{number}") } else { format!("{number:.4}") };
            text += &format!("{:<12} {number}\n", name.replace('_', " "));
        }
    }
    text += "\n# the recipe, where it differs from the defaults\n";
    text += &differences(&config.recipe);
    print(text.trim_end())
}

/// The keys of a recipe that are not at their defaults, as TOML.
fn differences(recipe: &Recipe) -> String {
    let (Ok(ours), Ok(defaults)) = (serde_json::to_value(recipe), serde_json::to_value(Recipe::default())) else {
        return recipe.to_toml();
    };
    let mut text = String::new();
    for (table, keys) in TABLES {
        let changed: Vec<String> = keys
            .iter()
            .filter(|(key, _)| ours[table][key] != defaults[table][key])
            .map(|(key, _)| format!("{key} = {}\n", ours[table][key]))
            .collect();
        if !changed.is_empty() {
            text += &format!("[{table}]\n{}", changed.concat());
        }
    }
    text
}

/// A result, on standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(qkv_train::Error::output(&e).into()),
        _ => Ok(()),
    }
}
