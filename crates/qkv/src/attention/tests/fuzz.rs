//! Random options and shapes, more of them than a test has time for: `bench/fuzz.sh` runs a million.
//!
//! Each is either right, by the formula in f64, or refused, and never a crash. Bounds are sixteen times those of the tests: among
//! a million draws there are some in which the plain formula in f32 happens to be exact.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::super::cases::{BIASES, Biased, Case, Graph, Memory, NORMALIZERS, Scoring, case};
use super::super::*;
use super::data::{Data, assert_all_within, instruction_sets};
use crate::options::*;
use crate::random::Key;

/// Draws, one after the other.
struct Draws(Key, u64);

impl Draws {
    fn bits(&mut self) -> usize {
        self.1 += 1;
        self.0.bits(self.1) as usize
    }

    fn below(&mut self, n: usize) -> usize {
        self.bits() % n
    }

    /// Every size up to `most`, small ones more often.
    fn size(&mut self, most: usize) -> usize {
        let most = self.below(most) + 1;
        self.below(most + 1)
    }

    fn share(&mut self) -> f32 {
        self.below(1001) as f32 / 1000.0
    }

    fn between(&mut self, n: isize) -> isize {
        self.below(2 * n as usize + 1) as isize - n
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn case(&mut self) -> Case {
        let sets = self.below(4);
        let longest = self.of(&[3, 12, 40, 100]);
        let mut lengths: Vec<_> = (0..sets).map(|_| (self.size(longest), self.size(longest))).collect();
        if self.below(60) == 0 {
            lengths.push((self.size(6), 1000 + self.below(3000)));
        }
        let mask = match self.below(4) {
            0 => Mask::Causal { offset: self.between(60) },
            1 => Mask::Window { left: self.size(70), right: self.size(70) },
            2 => Mask::Window { left: usize::MAX, right: self.size(3) },
            _ => Mask::Full,
        };
        let bias = match self.below(6) {
            0 => Biased::Relative { reach: self.size(90), offset: self.between(200) },
            1 => Biased::Grid { reach: [self.size(9), self.size(9)] },
            2 => Biased::Stored { count: 1 + self.below(256) },
            3 => Biased::Alibi { offset: self.between(200) },
            _ => self.of(&BIASES),
        };
        let graph = match self.below(12) {
            0 => Some(Graph::Random(self.share())),
            1 => Some(Graph::Blocks(1 + self.size(60))),
            2 => Some(Graph::Hubs(self.below(4))),
            3 => Some(Graph::Isolated(self.share())),
            4 => Some(Graph::EverySecondSet(self.share())),
            _ => (bias == Biased::Edges).then_some(Graph::Random(0.4)),
        };
        let slope = self.share() - 0.3;
        let score = match self.below(6) {
            0 => Scoring::Capped(0.2 + 50.0 * self.share()),
            1 => Scoring::Additive(ScoreActivation::Tanh),
            2 => Scoring::Additive(ScoreActivation::LeakyRelu { slope }),
            3 => Scoring::RankOne(slope),
            _ => Scoring::Dot,
        };
        let (kv_heads, group) = (1 + self.below(3), 1 + self.below(3));
        let head_dim = if let Scoring::RankOne(_) = score { 1 } else { 1 + self.size(40) };
        let shape = Shape { heads: kv_heads * group, kv_heads, head_dim, value_dim: 1 + self.size(40) };
        Case {
            memory: self.of(&[Memory::Packed, Memory::ByHead, Memory::Gaps]),
            graph,
            score,
            normalizer: self.of(&NORMALIZERS),
            bias,
            dropout: (self.below(3) == 0).then(|| 0.95 * self.share()),
            scale: (self.below(3) == 0).then(|| 8.0 * self.share() - 4.0),
            ..case(&lengths, shape, mask)
        }
    }

    /// Options with one thing wrong, if there is one to make so.
    fn spoil<'a>(&mut self, options: &Options<'a>) -> Option<Options<'a>> {
        fn shorter<T>(x: &[T]) -> Option<&[T]> {
            x.split_last().map(|(_, rest)| rest)
        }
        let rate = self.of(&[1.0, -0.1, f32::NAN, f32::INFINITY]);
        let bias = match options.bias {
            Bias::None => None,
            Bias::Alibi { slopes, offset } => Some(Bias::Alibi { slopes: shorter(slopes)?, offset }),
            Bias::Buckets { table, buckets } => Some(Bias::Buckets { table: shorter(table)?, buckets }),
            Bias::Edges { values } => Some(Bias::Edges { values: shorter(values)? }),
            Bias::Dense { values } => Some(Bias::Dense { values: shorter(values)? }),
        };
        Some(match (options.score, bias) {
            (Score::Dot { scale, softcap: Some(cap) }, _) => {
                Options { score: Score::Dot { scale, softcap: Some(-cap) }, ..*options }
            }
            (Score::Additive { activation, weights }, _) => {
                Options { score: Score::Additive { activation, weights: shorter(weights)? }, ..*options }
            }
            (_, Some(bias)) => Options { bias, ..*options },
            _ => Options { dropout: Some(Dropout { rate, key: Key::new(1) }), ..*options },
        })
    }
}

#[test]
#[ignore = "takes minutes: bench/fuzz.sh"]
fn any_options_and_shape_are_right_or_refused() {
    let number =
        |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |x| x.parse().expect("a whole number"));
    let (count, seed) = (number("QKV_FUZZ", 20_000), number("QKV_FUZZ_SEED", 1));
    let (refused, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    (0..count).into_par_iter().for_each(|n| {
        let mut draws = Draws(Key::new(seed).fold(n), 0);
        let case = draws.case();
        let data = Data::new(&case, n);
        let (exact, naive) = (data.reference::<f64>(), data.reference::<f32>());
        for kernels in instruction_sets() {
            let found = data.run(kernels, &mut Workspace::new());
            assert_all_within(16.0, &case, [&found, &naive], &exact);
        }
        if let Some(options) = draws.spoil(&data.options()) {
            let (mut out, mut lse) = (vec![0.0; data.d_out.len()], vec![0.0; naive.lse.len()]);
            let to = ViewMut::new(&mut out, case.shape.heads, case.shape.value_dim);
            let result = attention_forward(&data.inputs(), &options, to, &mut lse, &mut Workspace::new());
            assert!(result.is_err(), "{options:?} of {case:?}");
            refused.fetch_add(1, Ordering::Relaxed);
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(100_000) {
            println!("{done} of {count}");
        }
    });
    println!("{count} right, seed {seed}; {} of them refused with one thing wrong", refused.into_inner());
}
