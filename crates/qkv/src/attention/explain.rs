//! What a call of attention will do, before it is made: how the work is split, what it costs, what memory it takes.
//!
//! Belongs here: figures that follow from plan and layout. Does not: measuring, which `peak.rs` and the caller do.

use std::ops::Range;

use super::backward::{self, ROW_NUMBERS};
use super::choice::Choice;
use super::edges::Kept;
use super::kernels::{BACKWARD_KEYS, BACKWARD_QUERIES, FORWARD_KEYS, FORWARD_QUERIES, Kernels};
use super::plan::Plan;
use super::shape::{AttentionError, Inputs, Shape, View};
use crate::isa::Isa;
use crate::offsets::Offsets;
use crate::options::Options;

/// Rows and columns that are computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
}

/// One direction of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Queries and keys of a tile.
    pub tile: Tile,
    /// The smallest parts into which the work is cut: queries of some heads that meet their keys in the forward pass,
    /// blocks of keys that meet their queries in the backward pass.
    pub units: usize,
    /// Units that are done together, by one thread. More threads than tasks are of no use.
    pub tasks: usize,
    /// Floating-point operations of the products that the mask asks for: `2 · pairs · heads · (head_dim + value_dim)`
    /// forward, and `2 · pairs · heads · (3 · head_dim + 2 · value_dim)` backward, where the logits are computed again.
    /// What the softmax takes is not among them.
    pub flops: u128,
    /// Bytes that must be read or written at least once.
    pub bytes: u128,
    /// Bytes of the workspace after such a call alone.
    pub scratch_bytes: u128,
}

impl Pass {
    /// Floating-point operations for each byte that must be moved. The lower, the sooner memory limits the speed.
    pub fn intensity(&self) -> f64 {
        self.flops as f64 / (self.bytes as f64).max(1.0)
    }
}

/// What [`explain`] says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The instruction set that the kernels of this process use.
    pub isa: Isa,
    /// The register tile of products, `q · k` and `d_out · v`: queries and keys.
    pub products: Tile,
    /// The register tile of weighted sums, `weights · v` and the gradients: queries or keys, and columns of the result.
    pub sums: Tile,
    /// The forward pass.
    pub forward: Pass,
    /// The backward pass.
    pub backward: Pass,
    /// How often the forward pass packs keys and values of sets, to go on with all of their queries; 0 if each unit packs what
    /// it needs.
    pub waves: usize,
    /// Pairs of a query and a key that take part, in all sets, for one head.
    pub pairs: u128,
    /// Threads that scratch memory was counted for.
    pub threads: usize,
    /// Bytes of query, key and value, and of what is learned of score and bias.
    pub input_bytes: u128,
    /// Bytes of the result and its log-sum-exps.
    pub output_bytes: u128,
    /// Bytes of the gradient of the result, which is given, and of those of query, key and value, which are found.
    pub gradient_bytes: u128,
    /// Bytes of one workspace that has served both passes, as [`Workspace::bytes`](super::Workspace::bytes) tells.
    pub scratch_bytes: u128,
    /// Bytes of all of them, which a forward and a backward pass hold at the same time.
    pub peak_bytes: u128,
}

/// What a forward and a backward pass over such sets will do, on `threads` threads (at least one).
///
/// Nothing of the size of the inputs is allocated, only the plan of the work: a few bytes for each query of each head; and the
/// columns of a graph, which it keeps itself, as a backward pass would make it: 8 bytes for each edge and node, counted nowhere
/// here. Figures of memory are those of calls with a new [`Workspace`](super::Workspace), query, key and value packed, and all
/// gradients asked for, of which the forward pass keeps nothing but its result and log-sum-exps
/// ([`attention_forward_keeping`](super::attention_forward_keeping) keeps [more](super::kept_numbers) of some). Of the options, weights of
/// the score and biases count as inputs; buckets, places and edges do not.
///
/// # Errors
///
/// [`AttentionError`] if heads, widths or sets do not fit together.
pub fn explain(
    shape: Shape,
    queries: &Offsets,
    keys: &Offsets,
    options: &Options<'_>,
    threads: usize,
) -> Result<Explanation, AttentionError> {
    // Heads, widths and sets are checked as those of a call; slices cannot be too short where no set has a vector.
    let no_vectors = |offsets: &Offsets| Offsets::from_lengths(vec![0; offsets.sets()]);
    let (no_queries, no_keys) = (no_vectors(queries), no_vectors(keys));
    let [query, key, value] =
        [(shape.heads, shape.head_dim), (shape.kv_heads, shape.head_dim), (shape.kv_heads, shape.value_dim)]
            .map(|(heads, dim)| View::new(&[], heads, dim));
    let inputs = Inputs { shape, query, key, value, queries: &no_queries, keys: &no_keys };
    inputs.check()?;
    // The plan asks for shapes alone, never for a number.
    let inputs = Inputs { queries, keys, ..inputs };

    let choice = &Choice::new(&inputs, options)?;
    let pairs = match choice.edges() {
        Some(edges) => edges.edges() as u128,
        None => queries.lengths().zip(keys.lengths()).map(|(q, kv)| options.mask.pairs(q, kv) as u128).sum::<u128>(),
    };
    let (flops, bytes) = (Flops::of(shape, pairs), Bytes::of(&inputs, choice));
    let (threads, isa) = (threads.max(1), Isa::detect());
    let [products, sums] = Kernels::of(isa).register_tiles.map(|[rows, columns]| Tile { rows, columns });
    let mut plan = Plan::default();
    let forward = Scratch::forward(&inputs, choice, &mut plan);
    let both = forward.then(&Scratch::backward(&inputs, choice, &mut plan));
    let backward = Scratch::backward(&inputs, choice, &mut Plan::default());
    let scratch_bytes = both.bytes(threads);
    Ok(Explanation {
        isa,
        products,
        sums,
        forward: Pass {
            tile: Tile { rows: FORWARD_QUERIES, columns: FORWARD_KEYS },
            units: forward.units,
            tasks: forward.tasks,
            flops: flops.forward,
            bytes: bytes.inputs + bytes.outputs,
            scratch_bytes: forward.bytes(threads),
        },
        backward: Pass {
            tile: Tile { rows: BACKWARD_QUERIES, columns: BACKWARD_KEYS },
            units: backward.units,
            tasks: backward.tasks,
            flops: flops.backward,
            bytes: bytes.inputs + bytes.outputs + bytes.gradients,
            scratch_bytes: backward.bytes(threads),
        },
        waves: forward.waves,
        pairs,
        threads,
        input_bytes: bytes.inputs,
        output_bytes: bytes.outputs,
        gradient_bytes: bytes.gradients,
        scratch_bytes,
        peak_bytes: bytes.inputs + bytes.outputs + bytes.gradients + scratch_bytes,
    })
}

/// Operations of both passes.
struct Flops {
    forward: u128,
    backward: u128,
}

impl Flops {
    fn of(Shape { heads, head_dim, value_dim, .. }: Shape, pairs: u128) -> Self {
        let products = 2 * pairs * heads as u128;
        let (head_dim, value_dim) = (head_dim as u128, value_dim as u128);
        Self { forward: products * (head_dim + value_dim), backward: products * (3 * head_dim + 2 * value_dim) }
    }
}

/// Memory of the caller.
struct Bytes {
    inputs: u128,
    outputs: u128,
    gradients: u128,
}

impl Bytes {
    fn of(inputs: &Inputs<'_>, choice: &Choice<'_>) -> Self {
        let Shape { heads, kv_heads, head_dim, value_dim } = inputs.shape;
        let product =
            |sizes: [usize; 3]| sizes.iter().map(|&size| size as u128).product::<u128>() * size_of::<f32>() as u128;
        let (q_len, kv_len) = (inputs.queries.tokens(), inputs.keys.tokens());
        let out = product([q_len, heads, value_dim]);
        let inputs = product([q_len, heads, head_dim])
            + product([kv_len, kv_heads, head_dim])
            + product([kv_len, kv_heads, value_dim])
            + choice.learned().iter().map(|&numbers| product([numbers, 1, 1])).sum::<u128>();
        let lse = q_len as u128 * heads as u128 * size_of::<f64>() as u128;
        Self { inputs, outputs: out + lse, gradients: out + inputs }
    }
}

/// What a call leaves in its workspace.
#[derive(Clone, Copy, Default)]
struct Scratch {
    units: usize,
    tasks: usize,
    waves: usize,
    /// Numbers of keys and values packed for all threads.
    packed: usize,
    /// Numbers that are kept for each row.
    rows: usize,
    /// Numbers of each thread.
    thread: usize,
    /// Numbers of results of parts, of a bias by difference, of gradients that are summed over pairs, and of edges.
    partial: usize,
    differences: usize,
    sums: usize,
    by_edge: usize,
    /// Heads whose sums a thread keeps apart.
    touched: usize,
    starts: usize,
    turns: usize,
    plan_bytes: usize,
}

impl Scratch {
    fn forward(inputs: &Inputs<'_>, choice: &Choice<'_>, plan: &mut Plan) -> Self {
        plan.forward(inputs, choice, false);
        Self {
            units: plan.units.len() + plan.parts.len() + plan.by_query.len(),
            tasks: plan.tasks.len() + plan.parts.len() + plan.by_query.len(),
            waves: plan.waves.iter().filter(|(packings, _)| !packings.is_empty()).count(),
            packed: plan.packed,
            rows: 0,
            thread: plan.forward_layout(inputs.shape, choice, false).total,
            partial: plan.partial,
            turns: 0,
            ..Self::of_bias(inputs, choice)
        }
        .with_plan(plan)
    }

    /// What a bias takes in either pass.
    fn of_bias(inputs: &Inputs<'_>, choice: &Choice<'_>) -> Self {
        let mut starts = Vec::new();
        choice.lay_out_starts(inputs, &mut starts);
        let differences = inputs.shape.heads * choice.differences.width();
        Self { differences, starts: starts.capacity(), ..Self::default() }
    }

    fn with_plan(self, plan: &Plan) -> Self {
        Self { plan_bytes: plan.bytes(), ..self }
    }

    fn backward(inputs: &Inputs<'_>, choice: &Choice<'_>, plan: &mut Plan) -> Self {
        plan.backward(inputs, choice);
        let per_head = backward::summed(choice, inputs.shape, [true; 2]).iter().sum::<usize>();
        let heads = if per_head == 0 { 0 } else { inputs.shape.heads };
        let followed = if plan.by_query.is_empty() { 0 } else { choice.edges().map_or(0, |edges| edges.edges()) };
        Self {
            units: plan.blocks.len() + plan.by_query.len() + plan.by_key.len(),
            tasks: plan.tasks.len() + plan.by_query.len() + plan.by_key.len(),
            rows: ROW_NUMBERS * inputs.shape.heads * inputs.queries.tokens(),
            thread: backward::Layout::new(inputs.shape, choice, plan.block_keys).total,
            turns: plan.turns,
            sums: heads * per_head,
            touched: heads,
            by_edge: Kept::numbers(followed, inputs.shape.heads),
            ..Self::of_bias(inputs, choice)
        }
        .with_plan(plan)
    }

    /// The same workspace after another call, whose plan was made in the same memory.
    fn then(self, next: &Self) -> Self {
        Self {
            packed: self.packed.max(next.packed),
            rows: self.rows.max(next.rows),
            thread: self.thread.max(next.thread),
            partial: self.partial.max(next.partial),
            sums: self.sums.max(next.sums),
            by_edge: self.by_edge.max(next.by_edge),
            touched: self.touched.max(next.touched),
            turns: self.turns.max(next.turns),
            plan_bytes: next.plan_bytes,
            ..self
        }
    }

    fn bytes(&self, threads: usize) -> u128 {
        let lines = |numbers: usize| numbers.div_ceil(16) as u128 * 64;
        let buffers = [self.packed, self.rows, self.partial, self.differences, self.sums, self.by_edge];
        let shared = buffers.map(lines).iter().sum::<u128>()
            + ((self.turns + self.starts) * size_of::<usize>() + self.plan_bytes) as u128;
        let thread = lines(self.thread) + lines(self.sums) + (self.touched * size_of::<Range<usize>>()) as u128;
        shared + threads as u128 * thread
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gradients, Saved, ViewMut, Workspace, attention_backward, attention_forward};
    use super::*;
    use crate::options::{Bias, Mask};

    /// Bytes of a workspace after a forward pass, and after a backward pass as well.
    fn measured(
        shape: Shape,
        (queries, keys): (&Offsets, &Offsets),
        options: &Options<'_>,
        threads: usize,
    ) -> [usize; 2] {
        let Shape { heads, kv_heads, head_dim, value_dim } = shape;
        let zeros = |offsets: &Offsets, heads: usize, dim: usize| vec![0.0_f32; offsets.tokens() * heads * dim];
        let (query, key) = (zeros(queries, heads, head_dim), zeros(keys, kv_heads, head_dim));
        let (value, mut out) = (zeros(keys, kv_heads, value_dim), zeros(queries, heads, value_dim));
        let mut lse = vec![0.0_f64; heads * queries.tokens()];
        let (d_out, mut dq, mut dk, mut dv) = (out.clone(), query.clone(), key.clone(), value.clone());
        let inputs = Inputs {
            shape,
            query: View::new(&query, heads, head_dim),
            key: View::new(&key, kv_heads, head_dim),
            value: View::new(&value, kv_heads, value_dim),
            queries,
            keys,
        };
        let mut d_bias = vec![0.0_f32; if let Bias::Dense { values } = options.bias { values.len() } else { 0 }];
        let mut workspace = Workspace::new();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let out_view = ViewMut::new(&mut out, heads, value_dim);
            attention_forward(&inputs, options, out_view, &mut lse, &mut workspace).expect("it fits");
            let forward = workspace.bytes();
            let mut gradients = Gradients::new(
                ViewMut::new(&mut dq, heads, head_dim),
                ViewMut::new(&mut dk, kv_heads, head_dim),
                ViewMut::new(&mut dv, kv_heads, value_dim),
            );
            let mut slopes = vec![0.0; heads];
            gradients.bias = match options.bias {
                Bias::None => None,
                Bias::Alibi { .. } => Some(&mut slopes),
                _ => Some(&mut d_bias),
            };
            let saved = Saved { out: View::new(&out, heads, value_dim), lse: &lse, kept: &[] };
            let d_out = View::new(&d_out, heads, value_dim);
            attention_backward(&inputs, options, &saved, d_out, gradients, &mut workspace).expect("it fits");
            [forward, workspace.bytes()]
        })
    }

    fn masked(mask: Mask<'_>) -> Options<'_> {
        Options { mask, ..Options::default() }
    }

    /// A shape, lengths of sets of queries, those of keys if they are others, a mask, and threads.
    type Case<'a> = (Shape, &'a [usize], Option<&'a [usize]>, Mask<'a>, usize);

    #[test]
    fn scratch_memory_is_what_a_workspace_then_holds() {
        let grouped = Shape { heads: 6, kv_heads: 2, head_dim: 24, value_dim: 17 };
        let cases: [Case<'_>; 7] = [
            (Shape::new(2, 64), &[700], None, Mask::Full, 2),
            (Shape::new(1, 64), &[3000], None, Mask::Causal { offset: 0 }, 3),
            (Shape::new(2, 32), &[2000], None, Mask::Window { left: 50, right: 20 }, 1),
            (Shape::new(3, 33), &[1; 300], None, Mask::Full, 2),
            (grouped, &[5, 900, 0, 130, 513], None, Mask::Full, 5),
            (grouped, &[1, 1], Some(&[1200, 40]), Mask::Full, 2),
            (Shape::new(1, 8), &[], None, Mask::Full, 1),
        ];
        for (shape, q_lens, kv_lens, mask, threads) in cases {
            let queries = Offsets::from_lengths(q_lens.iter().copied());
            let keys = Offsets::from_lengths(kv_lens.unwrap_or(q_lens).iter().copied());
            assert_predicted(shape, (&queries, &keys), &masked(mask), threads);
        }
        // options that need memory of their own
        let sets = Offsets::from_lengths([600, 0, 40]);
        let ring: Vec<_> = (0..600).map(|i| (i, (i * 17) % 600)).chain((600..640).map(|i| (i, i))).collect();
        let blocks: Vec<_> =
            (0..640).flat_map(|i| (0..600).map(move |j| (i, j)).filter(|(i, j)| i / 200 == j / 200)).collect();
        let [ring, blocks] = [ring, blocks].map(|edges| crate::csr::Csr::from_edges(640, &edges).expect("well formed"));
        let (slopes, dense) = ([0.1; 4], vec![0.0; 4 * (600 * 600 + 40 * 40)]);
        let (alibi, dense) = (Bias::Alibi { slopes: &slopes, offset: 0 }, Bias::Dense { values: &dense });
        for mask in [Mask::Full, Mask::Graph(&ring), Mask::Graph(&blocks)] {
            for bias in [Bias::None, alibi, dense] {
                for threads in [1, 3] {
                    let options = Options { bias, ..masked(mask) };
                    assert_predicted(Shape::new(4, 20), (&sets, &sets), &options, threads);
                }
            }
        }
    }

    #[track_caller]
    fn assert_predicted(shape: Shape, sets: (&Offsets, &Offsets), options: &Options<'_>, threads: usize) {
        let said = explain(shape, sets.0, sets.1, options, threads).expect("it fits");
        let predicted = [said.forward.scratch_bytes, said.scratch_bytes];
        for (predicted, measured) in predicted.into_iter().zip(measured(shape, sets, options, threads)) {
            let near = (predicted as f64 - measured as f64).abs() <= 0.02 * measured as f64 + 1024.0;
            assert!(near, "{shape:?} {:?}: predicted {predicted}, measured {measured}", options.mask);
        }
    }

    #[test]
    fn work_and_memory_are_counted_by_hand() {
        let shape = Shape { heads: 4, kv_heads: 2, head_dim: 16, value_dim: 8 };
        let sets = Offsets::from_lengths([10, 3]);
        let said = explain(shape, &sets, &sets, &masked(Mask::Causal { offset: 0 }), 2).expect("it fits");
        let pairs = 55 + 6;
        assert_eq!(said.pairs, pairs);
        assert_eq!((said.forward.flops, said.backward.flops), (2 * pairs * 4 * 24, 2 * pairs * 4 * 64));
        let (query, key, value, out) = (13 * 4 * 16 * 4, 13 * 2 * 16 * 4, 13 * 2 * 8 * 4, 13 * 4 * 8 * 4);
        assert_eq!(said.input_bytes, query + key + value);
        assert_eq!(said.output_bytes, out + 13 * 4 * 8);
        assert_eq!(said.gradient_bytes, out + query + key + value);
        assert_eq!(said.peak_bytes, said.input_bytes + said.output_bytes + said.gradient_bytes + said.scratch_bytes);
        assert_eq!((said.forward.units, said.waves), (4, 0), "short sets, one unit for each and for each head of keys");
    }

    #[test]
    fn the_additive_score_takes_no_memory_for_its_sums() {
        use crate::options::{Score, ScoreActivation};
        let (sets, weights) = (Offsets::from_lengths([512]), [0.1; 4 * 32]);
        let score = Score::Additive { activation: ScoreActivation::Tanh, weights: &weights };
        let additive = Options { score, ..Options::default() };
        let scratch = |options| explain(Shape::new(4, 32), &sets, &sets, options, 2).expect("it fits").scratch_bytes;
        // heads · N² · d numbers would be 128 MiB
        assert!(scratch(&additive) < scratch(&Options::default()) + (64 << 10));
    }

    #[test]
    fn what_a_call_would_refuse_is_refused() {
        let sets = Offsets::from_lengths([4]);
        let full = |shape, keys: &Offsets| explain(shape, &sets, keys, &masked(Mask::Full), 1);
        let odd = Shape { heads: 3, kv_heads: 2, head_dim: 4, value_dim: 4 };
        assert_eq!(full(odd, &sets), Err(AttentionError::Heads { heads: 3, kv_heads: 2 }));
        assert_eq!(full(Shape::new(1, 0), &sets), Err(AttentionError::Dims { head_dim: 0, value_dim: 0 }));
        let two = Offsets::from_lengths([4, 4]);
        assert_eq!(full(Shape::new(1, 4), &two), Err(AttentionError::Sets { queries: 1, keys: 2 }));
    }

    #[test]
    fn a_long_sequence_is_explained_without_its_memory() {
        let sets = Offsets::from_lengths([1 << 22]);
        let said = explain(Shape::new(1, 64), &sets, &sets, &masked(Mask::Window { left: 128, right: 128 }), 2)
            .expect("it fits");
        assert_eq!(said.pairs, (1_u128 << 22) * 257 - 128 * 129);
        assert!(said.scratch_bytes < said.peak_bytes);
    }
}
