//! `train`, `evaluate`, `predict` and `info`.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qkv_train::Recipe;
use qkv_train::metrics::mean_and_deviation;
use qkv_train::model_dir::ModelDir;
use qkv_train::recipe::TABLES;
use qkv_train::run::{Report, estimate, run};
use qkv_train::tag::{Part, Style, Tagger};
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
        ("model.task", &options.task),
        ("input.kind", &options.input),
        ("data.train", &options.train),
        ("data.dev", &options.dev),
        ("training.precision", &options.precision),
    ];
    for (key, value) in flags {
        if let Some(value) = value {
            recipe.set(&format!("{key}={}", quoted(value)))?;
        }
    }
    if let Some(epochs) = options.epochs {
        recipe.training.epochs = epochs;
    }
    if let Some(seed) = options.seed {
        recipe.training.seed = seed;
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
    if options.dry_run {
        return dry_run(&recipe, options.json);
    }
    let Some(out) = &options.out else { return Err(Failure::usage("--out MODEL is needed: where the model goes")) };
    let runs = options.runs.get();
    let mut results = Vec::new();
    for number in 0..runs {
        let mut recipe = recipe.clone();
        recipe.training.seed += number as u64;
        let (folder, name) = if runs == 1 {
            (out.clone(), String::new())
        } else {
            let name = format!("seed-{}", recipe.training.seed);
            (out.join(&name), name)
        };
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

fn train_once(recipe: &Recipe, out: &Path, name: &str, resume: bool, stop: &AtomicBool) -> Result<Report, Failure> {
    let mut display = Display::new(name, true);
    let mut warnings = Vec::new();
    let report = run(recipe, out, resume, stop, &mut display, &mut |warning| warnings.push(warning.to_string()));
    display.finish();
    warn(&warnings);
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

fn show_training(results: &[(std::path::PathBuf, Report)], as_json: bool) -> Result<(), Failure> {
    let mut objects = Vec::new();
    let mut scores = Vec::new();
    for (folder, report) in results {
        match report {
            Report::AlreadyFinished => {
                objects.push(json!({ "model": folder, "already_finished": true }));
                if !as_json {
                    print(&format!("{} is finished already; nothing was changed", folder.display()))?;
                }
            }
            Report::Trained { best, metric, parameters, seconds, .. } => {
                let score = best.as_ref().map_or(f64::NAN, |best| best.score);
                let epoch = best.as_ref().map_or(0, |best| best.epoch);
                scores.push(score);
                objects.push(json!({
                    "model": folder, "metric": metric, *metric: score, "best_epoch": epoch,
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

fn dry_run(recipe: &Recipe, as_json: bool) -> Result<(), Failure> {
    let estimate = estimate(recipe)?;
    warn(&estimate.warnings);
    let [words, labels, train_tokens, dev_tokens] = estimate.counts;
    if as_json {
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
    let result = tagger.evaluate(&options.data, part, options.format.as_deref())?;
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
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let watch = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
    let bar = watch.then(|| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar
    });
    let start = Instant::now();
    let done = tagger.predict_stream(&options.data, options.format.as_deref(), style, &mut out, stop, &mut |done| {
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
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::new(format!("stopped after {} sentences", done.sentences)));
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
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
