//! `train`, `evaluate`, `predict` and `info`.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qkv_train::Recipe;
use qkv_train::metrics::{mean_and_deviation, shown};
use qkv_train::model::{FileKind, Model, Overrides, Style};
use qkv_train::model_dir::ModelDir;
use qkv_train::recipe::{TABLES, Task};
use qkv_train::run::{Report, check_folder, check_folder_of_runs, estimate, run};
use qkv_train::tag::Part;
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
        ("--train", "data.train", options.train.as_deref().map(paths)),
        ("--dev", "data.dev", options.dev.as_deref().map(paths)),
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
    if options.epochs.is_some() {
        // What is said later wins, and steps would win over epochs.
        recipe.training.steps = None;
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

/// One path, or several as a list.
fn paths(values: &[String]) -> String {
    match values {
        [path] => quoted(path),
        paths => Value::from(paths.to_vec()).to_string(),
    }
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
    if count > 1 {
        check_folder_of_runs(out)?;
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

pub(crate) fn warn(warnings: &[String]) {
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
        let model = folder.display().to_string();
        match report {
            Report::AlreadyFinished { metric, score } => {
                scores.push(*score);
                objects.push(json!({ "model": model, "already_finished": true, (metric): score }));
                if !as_json {
                    print(&format!(
                        "{model} is finished already; nothing was changed: dev {metric} {}",
                        shown(*score)
                    ))?;
                }
            }
            Report::Trained { best, metric, parameters, seconds, .. } => {
                let score = best.as_ref().map_or(f64::NAN, |best| best.score);
                let epoch = best.as_ref().map_or(0, |best| best.epoch);
                scores.push(score);
                objects.push(json!({
                    "model": model, "metric": metric, (metric): score, "best_epoch": epoch,
                    "parameters": parameters, "seconds": seconds,
                }));
                if !as_json {
                    let time = duration(*seconds);
                    print(&format!("{model}: dev {metric} {} (epoch {epoch}), {time}", shown(score)))?;
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
    print(&format!("{} runs: mean {}, standard deviation {}", scores.len(), shown(mean), shown(deviation)))
}

pub(crate) fn dry_run(options: &Train) -> Result<(), Failure> {
    let recipe = recipe(options)?;
    let estimate = estimate(&recipe)?;
    warn(&estimate.warnings);
    let [train_tokens, dev_tokens] = estimate.tokens;
    if options.json {
        let mut object = serde_json::Map::new();
        object.extend(estimate.counts.iter().map(|count| (count.name.to_string(), count.number.into())));
        object.insert("train_tokens".into(), train_tokens.into());
        object.insert("dev_tokens".into(), dev_tokens.into());
        object.insert("parameters".into(), estimate.parameters.into());
        object.insert("seconds".into(), estimate.seconds.into());
        object.insert("peak_memory".into(), estimate.peak_memory.into());
        return print(&Value::Object(object).to_string());
    }
    let counts: String =
        estimate.counts.iter().map(|count| format!("{:<12} {}\n", count.title, count.number)).collect();
    let memory = estimate.peak_memory.map_or("unknown".into(), |bytes| format!("{:.0} MiB", bytes as f64 / 1048576.0));
    let length = match recipe.training.steps {
        Some(steps) => format!("{steps} steps"),
        None => format!("{} epochs", recipe.training.epochs),
    };
    print(&format!(
        "recipe and data are in order\n\
         {counts}train        {} vectors\ndev          {} vectors\n\
         parameters   {}\ntime         about {} for {length}\nmemory       about {memory}",
        rounded(train_tokens as f64),
        rounded(dev_tokens as f64),
        rounded(estimate.parameters as f64),
        duration(estimate.seconds),
    ))
}

/// The part of data that `--split` names.
pub(crate) fn part_named(name: &str) -> Result<Part, Failure> {
    match name {
        "train" => Ok(Part::Train),
        "dev" => Ok(Part::Dev),
        "test" => Ok(Part::Test),
        other => Err(Failure::usage(format!("--split {other}: expected train, dev or test"))),
    }
}

pub(crate) fn evaluate(options: &Evaluate) -> Result<(), Failure> {
    let part = part_named(&options.split)?;
    let model = Model::load(&options.model, &Overrides { set: &options.set, seed: None })?;
    let kind = FileKind { format: options.format.as_deref(), encoding: options.encoding.as_deref() };
    let result = model.evaluate(&options.data, part, kind)?;
    warn(&result.warnings);
    if options.json {
        let mut object = json!({
            "task": model.task().name(), "examples": result.examples, "tokens": result.tokens,
            "seconds": result.seconds,
        });
        if let Some(object) = object.as_object_mut() {
            object.extend(result.metrics.iter().map(|(name, value)| ((*name).to_string(), (*value).into())));
            object.extend(result.details.into_iter().map(|detail| (detail.name.to_string(), detail.json)));
        }
        return print(&object.to_string());
    }
    let (_, tokens) = model.nouns();
    let width = result.metrics.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(10);
    let row = |name: &str, value: String| format!("{:<width$} {value}\n", name.replace('_', " "));
    let mut text = row("examples", rounded(result.examples as f64)) + &row(tokens, rounded(result.tokens as f64));
    for (name, value) in &result.metrics {
        let remark = result.remarks.iter().find(|(of, _)| of == name);
        let remark = remark.map_or(String::new(), |(_, remark)| format!("  ({remark})"));
        text += &row(name, format!("{}{remark}", shown(*value)));
    }
    let speed = rounded(result.tokens as f64 / result.seconds.max(1e-9));
    text += &row("seconds", format!("{:.2}  ({speed} {tokens} a second)", result.seconds));
    for detail in &result.details {
        text += &format!("\n{}", detail.text);
    }
    print(text.trim_end())
}

pub(crate) fn predict(options: &Predict, stop: &AtomicBool) -> Result<(), Failure> {
    let model = Model::load(&options.model, &Overrides { set: &options.set, seed: options.seed })?;
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
    let (start, (examples, tokens)) = (Instant::now(), model.nouns());
    let all = bar.as_ref().and_then(|_| expected_examples(&options.data, model.task()));
    let mut watch = |done: usize, written: usize| {
        if let Some(bar) = &bar {
            let seconds = start.elapsed().as_secs_f64().max(1e-9);
            let rate = rounded(written as f64 / seconds);
            let (of, left) = match all.filter(|&all| all >= done && done > 0) {
                Some(all) => {
                    let left = seconds / done as f64 * (all - done) as f64;
                    (format!(" of about {}", rounded(all as f64)), format!(" · {} left", duration(left)))
                }
                None => Default::default(),
            };
            bar.set_message(format!("{}{of} {examples} · {rate} {tokens} a second{left}", rounded(done as f64)));
            bar.tick();
        }
    };
    let done = match &options.masks {
        Some(folder) => model.predict_masks(&options.data, folder, style, &mut out, stop, &mut watch),
        None => model.predict_stream(&options.data, kind, style, &mut out, stop, &mut watch),
    };
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let done = done?;
    warn(&done.warnings);
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::new(format!("stopped after {} {examples}", done.examples)));
    }
    Ok(())
}

/// About how many examples a file holds, by its lines, or for words with labels by its blank lines; `None` if that cannot be told.
fn expected_examples(path: &str, task: Task) -> Option<usize> {
    let file = std::fs::File::open(path).ok().filter(|file| file.metadata().is_ok_and(|about| about.is_file()))?;
    let (mut reader, mut lines, mut blank, mut last) = (std::io::BufReader::new(file), 0, 0, b'\n');
    loop {
        let piece = reader.fill_buf().ok()?;
        if piece.is_empty() {
            break;
        }
        for &byte in piece {
            lines += usize::from(byte == b'\n');
            blank += usize::from(byte == b'\n' && last == b'\n');
            last = byte;
        }
        let length = piece.len();
        reader.consume(length);
    }
    lines += usize::from(last != b'\n');
    Some(if task == Task::Tag && blank > 0 { blank } else { lines })
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
            let number = if value.is_u64() { format!("{number}") } else { shown(number) };
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
