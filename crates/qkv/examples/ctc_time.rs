//! How long connectionist temporal classification takes: forward and backward pass, medians of several runs on two threads.
//!
//! `cargo run --release -p qkv --example ctc_time`

use std::time::Instant;

use qkv::ctc::{CtcSaved, CtcTargets, ctc_backward, ctc_forward};
use qkv::{Key, Offsets};

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool of threads");
    println!("  sets frames classes labels   forward  backward   ns a state   memory");
    for (sets, frames, classes, labels, runs) in [
        (32, 300, 30, 40, 101),
        (32, 300, 1000, 40, 31),
        (32, 1500, 30, 200, 11),
        (1, 45_000, 30, 2000, 5),
        (2, 45_000, 30, 2000, 5),
    ] {
        let key = Key::new(1);
        let offsets = Offsets::from_lengths(vec![frames; sets]);
        let logits: Vec<f32> = (0..(sets * frames * classes) as u64).map(|n| 2.0 * key.normal(n)).collect();
        let ids: Vec<u32> =
            (0..(sets * labels) as u64).map(|n| 1 + key.fold(1).bits(n) % (classes as u32 - 1)).collect();
        let of_labels = Offsets::from_lengths(vec![labels; sets]);
        let targets = CtcTargets { ids: &ids, offsets: &of_labels, blank: 0 };
        let (mut saved, mut d_logits) = (CtcSaved::new(), vec![0.0; logits.len()]);
        let mut times: [Vec<f64>; 2] = Default::default();
        for _ in 0..runs {
            let start = Instant::now();
            pool.install(|| ctc_forward(&logits, classes, &offsets, &targets, &mut saved));
            let middle = Instant::now();
            pool.install(|| ctc_backward(&logits, classes, &offsets, &targets, &mut saved, 1.0, &mut d_logits));
            times[0].push((middle - start).as_secs_f64());
            times[1].push(middle.elapsed().as_secs_f64());
        }
        times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        let [forward, backward] = times.map(|times| times[runs / 2]);
        let states = (sets * frames * (2 * labels + 1)) as f64;
        println!(
            "{sets:6} {frames:6} {classes:7} {labels:6} {:6.3} ms {:6.3} ms {:12.3} {:4.1} MiB",
            forward * 1e3,
            backward * 1e3,
            (forward + backward) * 1e9 / states,
            (CtcSaved::numbers_for(classes, &offsets, &of_labels) * 4) as f64 / (1 << 20) as f64,
        );
    }
}
