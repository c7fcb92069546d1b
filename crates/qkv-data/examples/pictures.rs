//! How many pictures a second are drawn, cut into patches and varied.
//!
//! ```sh
//! QKV_DATA=DATA cargo run --release -p qkv-data --example pictures [FOLDER]
//! ```
//!
//! `DATA/mnist` is read if it is there. With a folder, a hundred scenes are written into it.

use std::time::Instant;

use qkv::random::Key;
use qkv_data::builtin::{Part, SceneOptions, accuracy_without_pictures, scenes, write_scenes};
use qkv_data::image::{AugmentOptions, PictureOptions, Pictures, read_pictures};
use qkv_data::listing::ListOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{} threads", rayon::current_num_threads());
    let options = SceneOptions::default();
    let train = told("scenes drawn", options.train, || scenes(&options, Part::Train))?;
    let test = scenes(&options, Part::Test)?;
    println!("questions of scenes answered by their words alone: {:.4}", accuracy_without_pictures(&train, &test));
    if let Some(folder) = std::env::args().nth(1) {
        write_scenes(folder, &SceneOptions { train: 100, dev: 0, test: 0, ..options })?;
    }
    let read = PictureOptions::default();
    let set = read_pictures("builtin:scenes", &read, &ListOptions::default())?;
    cut("scenes", &set.pictures);
    if let Ok(data) = std::env::var("QKV_DATA") {
        let path = std::path::Path::new(&data).join("mnist");
        let set = told("MNIST read", 70_000, || read_pictures(path.as_path(), &read, &ListOptions::default()))?;
        cut("MNIST", &set.pictures);
    }
    Ok(())
}

/// Does something with `count` pictures, and tells how fast.
fn told<T>(what: &str, count: usize, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    println!("{what}: {:.0} a second", count as f64 / start.elapsed().as_secs_f64());
    done
}

/// One epoch in batches of 128, plain and varied.
fn cut(name: &str, pictures: &Pictures) {
    let shifted = AugmentOptions { shift: 2, ..AugmentOptions::default() };
    let turned = AugmentOptions { rotate: 10.0, scale: 0.1, brightness: 0.1, contrast: 0.1, erase: 0.2, ..shifted };
    let order: Vec<usize> = (0..pictures.len()).collect();
    let kinds = [("cut", None), ("shifted and cut", Some(&shifted)), ("varied in all ways and cut", Some(&turned))];
    for (kind, augment) in kinds {
        told(&format!("{name} {kind}"), order.len(), || {
            for indices in order.chunks(128) {
                std::hint::black_box(pictures.batch(indices, augment.map(|options| (options, Key::new(1)))));
            }
        });
    }
}
