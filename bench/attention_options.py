"""The options of attention in PyTorch, each as those who need it write it: what `attention.py --options` runs.

Scores, normalisers and biases that PyTorch's fused attention does not know have several ways, and each is a rival. Compiled
ones need a C++ compiler, and the graph needs `pip install torch_geometric`.
"""

import math

FORWARD, BOTH = "forward", "forward+backward"
# heads, tokens, width
RELATIVE = (8, 4096, 64)
SQUARE = (8, 2048, 64)
ADDITIVE = (4, 512, 32)
CACHE = (32, 32768, 128)
# nodes, edges, heads, width
GRAPH = (100_000, 1_000_000, 4, 16)
KV_HEADS = 8
DROPOUT = 0.1


def size(heads, tokens, width):
    return f"h{heads} n{tokens} d{width}"


CACHED = f"cache {size(*CACHE)}"
GROUPED = f"cache h{CACHE[0]} kv{KV_HEADS} n{CACHE[1]} d{CACHE[2]}"
GAT = "gat n{} e{} h{} d{}".format(*GRAPH)


def cases():
    """Every case with its rivals, by the names that qkv gives the cases."""
    yield f"float32 relative bias {size(*RELATIVE)} {BOTH}", ["sdpa, gathered", "sdpa, unfolded"]
    yield f"float32 dropout{DROPOUT} {size(*SQUARE)} {BOTH}", ["sdpa", "formula, compiled"]
    for name in ("relu", "sigmoid"):
        yield f"float32 {name} {size(*SQUARE)} {BOTH}", ["formula", "formula, compiled"]
    yield f"float32 additive {size(*ADDITIVE)} {BOTH}", ["broadcast", "broadcast, compiled"]
    yield f"float32 {CACHED} {FORWARD}", ["sdpa"]
    yield f"float32 {CACHED} {FORWARD} token-major", ["sdpa"]
    yield f"float32 {GROUPED} {FORWARD}", ["sdpa, grouped"]
    yield f"float32 {GAT} {BOTH}", ["GATConv", "GATConv, sorted"]


def prepare(process, case, rival):
    """A function that does the work once; `process` is the one with PyTorch."""
    name = case.removeprefix("float32 ")
    for start, work in (
        ("relative bias", relative_bias),
        ("dropout", dropout),
        ("relu", by_formula),
        ("sigmoid", by_formula),
        ("additive", additive),
        ("cache", cache),
        ("gat", graph),
    ):
        if name.startswith(start):
            return work(process, name, rival)
    raise ValueError(case)


def relative_bias(process, name, rival):
    """A learned number for each distance between query and key, added to the logits: a table that becomes a mask."""
    torch, (heads, tokens, width) = process.torch, RELATIVE
    sdpa = torch.nn.functional.scaled_dot_product_attention
    q, k, v = process.draw(1, heads, tokens, width, True)
    table = torch.randn(heads, 2 * tokens - 1).requires_grad_()
    place = torch.arange(tokens)
    distance = place[:, None] - place + tokens - 1

    def gathered():
        return table[:, distance]

    def unfolded():
        # Row i of the bias is the table backwards, from the distance of key 0: one view of it, and a sum of its diagonals
        # for the gradient.
        return table.flip(1).unfold(1, tokens, 1).flip(1)

    with torch.no_grad():
        assert torch.equal(unfolded(), gathered()), "both are the same bias"
    bias = gathered if rival == "sdpa, gathered" else unfolded
    return process.timed(lambda: sdpa(q, k, v, attn_mask=bias()[None]), (q, k, v, table), True)


def logits(torch, q, k):
    return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])


def dropout(process, name, rival):
    torch, functional = process.torch, process.torch.nn.functional
    heads, tokens, width = SQUARE
    inputs = process.draw(1, heads, tokens, width, True)

    def formula(q, k, v):
        return functional.dropout(torch.softmax(logits(torch, q, k), -1), DROPOUT) @ v

    def fused(q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT)

    attend = fused if rival == "sdpa" else torch.compile(formula)
    return process.timed(lambda: attend(*inputs), inputs, True)


def by_formula(process, name, rival):
    """Normalisers that work on each logit by itself."""
    torch, (heads, tokens, width) = process.torch, SQUARE
    inputs = process.draw(1, heads, tokens, width, True)

    def relu(q, k, v):
        # The product with v is the smaller one to divide.
        return torch.relu(logits(torch, q, k)) @ v / tokens

    def sigmoid(q, k, v):
        return torch.sigmoid(logits(torch, q, k) - math.log(tokens)) @ v

    attend = relu if name.startswith("relu") else sigmoid
    if rival.endswith("compiled"):
        attend = torch.compile(attend)
    return process.timed(lambda: attend(*inputs), inputs, True)


def additive(process, name, rival):
    torch, (heads, tokens, width) = process.torch, ADDITIVE
    inputs = [*process.draw(1, heads, tokens, width, True), torch.randn(width).requires_grad_()]

    def attend(q, k, v, w):
        sums = q[:, :, :, None] + k[:, :, None]
        return torch.softmax(torch.tanh(sums) @ w, -1) @ v

    if rival.endswith("compiled"):
        attend = torch.compile(attend)
    return process.timed(lambda: attend(*inputs), inputs, True)


def cache(process, name, rival):
    """One query, and the keys and values of all that came before."""
    torch, (heads, tokens, width) = process.torch, CACHE
    sdpa = torch.nn.functional.scaled_dot_product_attention
    kv_heads = KV_HEADS if name.startswith(GROUPED) else heads
    q = torch.randn(1, heads, 1, width)
    if name.endswith("token-major"):
        k, v = (torch.randn(1, tokens, kv_heads, width).transpose(1, 2) for _ in range(2))
    else:
        k, v = (torch.randn(1, kv_heads, tokens, width) for _ in range(2))
    return process.timed(lambda: sdpa(q, k, v, enable_gqa=kv_heads < heads), (q, k, v), False)


def graph(process, name, rival):
    """The attention of GATConv without its linear layers: from the numbers of each node to the sums over its edges."""
    from torch_geometric.nn import GATConv

    torch, (nodes, edges, heads, width) = process.torch, GRAPH
    convolution = GATConv(1, width, heads, negative_slope=0.2, add_self_loops=False)
    ends = torch.randint(nodes, (2, edges))
    if rival == "GATConv, sorted":
        # By their targets, so that neighbouring edges are written to the same place.
        ends = ends[:, ends[1].argsort()].contiguous()
    value = torch.randn(nodes, heads, width).requires_grad_()
    source, target = (torch.randn(nodes, heads).requires_grad_() for _ in range(2))

    def attend():
        weights = convolution.edge_updater(ends, alpha=(source, target), edge_attr=None, size=None)
        return convolution.propagate(ends, x=(value, value), alpha=weights, size=None)

    return process.timed(attend, (value, source, target), True)
