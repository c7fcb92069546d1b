//! scratch
use qkv::Offsets;
use qkv::attention::*;
use qkv::options::*;
use std::time::Instant;
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let k = qkv::Key::new(seed);
    (0..n as u64).map(|i| k.normal(i)).collect()
}
fn median(mut f: impl FnMut()) -> f64 {
    f();
    let mut t = vec![];
    let s = Instant::now();
    while t.len() < 5 || s.elapsed().as_secs_f64() < 0.7 {
        let a = Instant::now();
        f();
        t.push(a.elapsed().as_secs_f64());
    }
    t.sort_by(f64::total_cmp);
    if std::env::var("MIN").is_ok() { t[0] } else { t[t.len() / 2] }
}
fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let threads: usize = std::env::args().nth(2).map_or(2, |x| x.parse().unwrap());
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    for (name, b, h, n, d, mask) in [
        ("n512", 1, 8, 512, 64, Mask::Full),
        ("n2048", 1, 8, 2048, 64, Mask::Full),
        ("causal", 1, 8, 2048, 64, Mask::Causal { offset: 0 }),
        ("h1 n8192", 1, 1, 8192, 64, Mask::Full),
        ("b8 h12 n128", 8, 12, 128, 64, Mask::Full),
        ("n2048 d128", 1, 8, 2048, 128, Mask::Full),
        ("window", 1, 8, 4096, 64, Mask::Window { left: 128, right: 128 }),
    ] {
        if !name.contains(&only) {
            continue;
        }
        let t = b * n;
        let (q, k, v, g) = (numbers(t * h * d, 1), numbers(t * h * d, 2), numbers(t * h * d, 3), numbers(t * h * d, 4));
        let sets = Offsets::from_lengths(vec![n; b]);
        fn mk<'a>(x: &'a [f32], t: usize, h: usize, d: usize) -> View<'a> {
            if std::env::var("PACKED").is_ok() { View::new(x, h, d) } else { View::by_head(x, t, d) }
        }
        macro_rules! view {
            ($x:expr) => {
                mk($x, t, h, d)
            };
        }
        fn mv<'a>(x: &'a mut [f32], t: usize, h: usize, d: usize) -> ViewMut<'a> {
            if std::env::var("PACKED").is_ok() { ViewMut::new(x, h, d) } else { ViewMut::by_head(x, t, d) }
        }
        let inputs = Inputs {
            shape: Shape::new(h, d),
            query: view!(&q),
            key: view!(&k),
            value: view!(&v),
            queries: &sets,
            keys: &sets,
        };
        let options = Options { mask, ..Default::default() };
        let mut ws = Workspace::new();
        let (mut out, mut lse) = (vec![0.0; t * h * d], vec![0.0; t * h]);
        let (mut dq, mut dk, mut dv) = (vec![0.0; t * h * d], vec![0.0; t * h * d], vec![0.0; t * h * d]);
        let f = median(|| attention_forward(&inputs, &options, mv(&mut out, t, h, d), &mut lse, &mut ws).unwrap());
        let fb = if std::env::var("FWD").is_ok() {
            1.0
        } else {
            median(|| {
                attention_forward(&inputs, &options, mv(&mut out, t, h, d), &mut lse, &mut ws).unwrap();
                attention_backward(
                    &inputs,
                    &options,
                    &Saved { out: view!(&out), lse: &lse },
                    view!(&g),
                    Gradients { query: mv(&mut dq, t, h, d), key: mv(&mut dk, t, h, d), value: mv(&mut dv, t, h, d) },
                    &mut ws,
                )
                .unwrap();
            })
        };
        let flops = 4.0 * (h * d) as f64 * (b * mask.pairs(n, n)) as f64;
        println!(
            "{name:14} forward {:8.3} ms {:6.1} GF/s   both {:8.3} ms {:6.1} GF/s  backward {:6.1}",
            f * 1e3,
            flops / f / 1e9,
            fb * 1e3,
            3.5 * flops / fb / 1e9,
            2.5 * flops / (fb - f) / 1e9
        );
    }
}
