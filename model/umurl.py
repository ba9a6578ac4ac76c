"""UmURL: one early-fusion transformer for all modalities, and the projectors it is pre-trained with.

Module and parameter names are the official code's, so its checkpoints load. N clips, H =
hidden_size.
"""

import math
from collections import namedtuple
from functools import cache
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

PROJECTION = 4096
MAX_LENGTH = 200
# What the official code calls modalities in the names of modules; others keep their full names.
SHORT_NAMES = {'joint': 'j', 'bone': 'b', 'motion': 'm'}


def short_name(modality: str) -> str:
    return SHORT_NAMES.get(modality, modality)


@cache
def projections_of(modalities: tuple[str, ...]) -> type:
    """The named tuple of the projections, each (B, 4096): z_j, z_b, z_m of the uni-modal features,
    z_uj, z_ub, z_um of the fused features through the same projectors.
    """
    names = [short_name(modality) for modality in modalities]
    uni = [f'z_{name}' for name in names]
    fused = [f'z_u{name}' for name in names]
    return namedtuple('Projections', uni + fused)


class LayerNorm(nn.LayerNorm):
    """LayerNorm that returns its input's dtype, and computes in float32 inside. Under a GPU's
    autocast torch's own returns float32, which all that follows would then carry through memory. On
    a CPU it does not.
    """

    def forward(self, x):
        if x.device.type == 'cpu' or x.dtype == self.weight.dtype:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return functional.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class FirstColumns(nn.Linear):
    """Linear that takes shorter inputs, too: numbers that are not there count as zeros."""

    def forward(self, x):
        return functional.linear(x, self.weight[:, : x.shape[-1]], self.bias)


class Embedding(nn.Module):
    """Map the two streams of one modality to width H. Streams of one body get one token for all
    joints of the absent one: their trajectories are zeros.
    """

    def __init__(self, t_input_size, s_input_size, hidden_size):
        super().__init__()
        self.t_embedding = embedding_mlp(t_input_size, hidden_size)
        self.s_embedding = embedding_mlp(s_input_size, hidden_size)

    def forward(self, streams):
        temporal, spatial = streams
        if temporal.shape[2] < self.t_embedding[0].in_features:
            spatial = functional.pad(spatial, (0, 0, 0, 1))  # (N, V + 1, T*C)
        return self.t_embedding(temporal), self.s_embedding(spatial)


def embedding_mlp(input_size, hidden_size):
    return nn.Sequential(
        FirstColumns(input_size, hidden_size),
        LayerNorm(hidden_size),
        nn.ReLU(),
        nn.Linear(hidden_size, hidden_size),
    )


class Fusion(nn.Module):
    """Average the modalities' embeddings, then one bias-free linear map per stream."""

    def __init__(self, hidden_size):
        super().__init__()
        self.t_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))
        self.s_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))

    def forward(self, embedded):
        temporal, spatial = zip(*embedded, strict=True)
        return self.t_fusion(average(temporal)), self.s_fusion(average(spatial))


def average(tensors):
    return sum(tensors[1:], tensors[0]) / len(tensors)


class PositionEncoding(nn.Module):
    """Sinusoidal positions; a buffer in the checkpoint."""

    def __init__(self, hidden_size):
        super().__init__()
        device = torch.empty(0).device
        with torch.device('cpu'):  # arithmetic on the meta device imports torch's compiler
            even = torch.arange(0, hidden_size, 2)
            frequency = torch.exp(even * (-math.log(10000.0) / hidden_size))
            angle = torch.arange(MAX_LENGTH)[:, None] * frequency  # (200, H / 2)
            waves = torch.stack((angle.sin(), angle.cos()), 2)  # (200, H / 2, 2)
        self.register_buffer('pe', waves.flatten(1)[None].to(device))  # (1, 200, H)

    def forward(self, x):
        return x + self.pe[:, : x.shape[1]].to(x.dtype)


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` on (N, L, H) without its copies; same parameter names and
    initialisation.
    """

    def __init__(self, hidden_size, num_head):
        super().__init__()
        self.num_head = num_head
        self.in_proj_weight = nn.Parameter(
            nn.init.xavier_uniform_(torch.empty(3 * hidden_size, hidden_size))
        )
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden_size))
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x, key_scores=None):
        """key_scores (1, L): added to the scores of the keys."""
        packed = functional.linear(x, self.in_proj_weight, self.in_proj_bias)  # (N, L, 3H)
        q, k, v = (self.split_heads(each) for each in packed.chunk(3, -1))
        attended = functional.scaled_dot_product_attention(q, k, v, key_scores)
        return self.out_proj(attended.transpose(1, 2).flatten(2))  # (N, L, H)

    def split_heads(self, x):
        return x.unflatten(2, (self.num_head, -1)).transpose(1, 2)  # (N, heads, L, H / heads)


class Layer(nn.Module):
    """A post-norm transformer layer whose feed-forward width is H."""

    def __init__(self, hidden_size, num_head):
        super().__init__()
        self.self_attn = SelfAttention(hidden_size, num_head)
        self.linear1 = nn.Linear(hidden_size, hidden_size)
        self.linear2 = nn.Linear(hidden_size, hidden_size)
        self.norm1 = LayerNorm(hidden_size)
        self.norm2 = LayerNorm(hidden_size)

    def forward(self, x, key_scores=None):
        x = self.norm1(x + self.self_attn(x, key_scores))
        return self.norm2(x + self.linear2(torch.relu(self.linear1(x))))


class Transformer(nn.Module):
    def __init__(self, hidden_size, num_head, num_layer):
        super().__init__()
        self.layers = nn.Sequential(*(Layer(hidden_size, num_head) for _ in range(num_layer)))

    def forward(self, x, key_scores=None):
        for layer in self.layers:
            x = layer(x, key_scores)
        return x


class Encoder(nn.Module):
    """One transformer per stream, shared by all modalities, then max over tokens: (N, 2H) =
    [temporal, spatial].

    The tokens of an absent body are equal and stay equal, since the spatial stream has no
    positions. One of them stands for all: its key counts as often as there are joints. This is the
    same function only with a maximum over tokens. With another pooling, a mean for example, give
    the encoder both bodies (`one_body_is_enough` in the feeder).
    """

    def __init__(self, hidden_size, num_head, num_layer, num_joints):
        super().__init__()
        self.num_joints = num_joints
        self.pe = PositionEncoding(hidden_size)
        self.t_tr = Transformer(hidden_size, num_head, num_layer)
        self.s_tr = Transformer(hidden_size, num_head, num_layer)

    def forward(self, temporal, spatial):
        temporal = self.t_tr(self.pe(temporal)).amax(1)  # (N, H)
        key_scores = None
        if spatial.shape[1] == self.num_joints + 1:  # one token stands for the absent body
            key_scores = spatial.new_zeros(1, self.num_joints + 1)
            key_scores[0, -1] = math.log(self.num_joints)
        spatial = self.s_tr(spatial, key_scores).amax(1)  # (N, H)
        return torch.cat((temporal, spatial), 1)  # (N, 2H)


class Backbone(nn.Module):
    """Embeddings, fusion and encoder: the part that downstream tasks use."""

    def __init__(self, t_input_size, s_input_size, hidden_size, num_head, num_layer, modalities):
        super().__init__()
        self.t_input_size = t_input_size
        self.s_input_size = s_input_size
        self.hidden_size = hidden_size
        self.num_head = num_head
        self.modalities = tuple(modalities)
        for modality in modalities:
            embedding = Embedding(t_input_size, s_input_size, hidden_size)
            self.add_module(f'{short_name(modality)}_emb', embedding)
        self.mm_fusion = Fusion(hidden_size)
        num_joints = t_input_size // 6  # of two bodies, with three coordinates
        self.ma_encoder = Encoder(hidden_size, num_head, num_layer, num_joints)

    def embeddings(self) -> dict[str, Embedding]:
        return {name: getattr(self, f'{short_name(name)}_emb') for name in self.modalities}

    def embed(self, streams: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """{modality: streams} -> tokens (temporal, spatial): a single modality unchanged, several
        fused.
        """
        embeddings = self.embeddings()
        return self.fuse([embeddings[modality](pair) for modality, pair in streams.items()])

    def fuse(self, embedded):
        return embedded[0] if len(embedded) == 1 else self.mm_fusion(embedded)

    def encode(self, *parts: dict) -> torch.Tensor:
        """{modality: (temporal (N, 64, 150), spatial (N, 50, 192))} -> features (N, 2H).

        The second body is left out for clips that have none: (N, 64, 75), (N, 25, 192). A batch of
        both kinds comes in two parts, whose features are joined.
        """
        return torch.cat([self.ma_encoder(*self.embed(streams)) for streams in parts])


class Projector(nn.Sequential):
    """2H -> 4096, an expander as in VICReg."""

    def __init__(self, size):
        super().__init__(
            nn.Linear(size, size),
            nn.BatchNorm1d(size),
            nn.ReLU(),
            nn.Linear(size, size),
            nn.BatchNorm1d(size),
            nn.ReLU(),
            nn.Linear(size, PROJECTION),
        )

    def forward(self, y):
        return super().forward(y)  # torch.compile passes over a forward that is torch's own


class UmURL(nn.Module):
    """The pre-training model: backbone and one projector per modality.

    With `encoder_chunks` > 1 a batch passes the encoder in that many chunks, and the backward
    computes each chunk's activations again: the same features and gradients, in the memory of one
    chunk. This is exact because the encoder treats every clip by itself; projectors and objective
    still see the whole batch.
    """

    def __init__(
        self,
        t_input_size,
        s_input_size,
        hidden_size,
        num_head=1,
        num_layer=1,
        encoder_chunks=1,
        modalities=tuple(SHORT_NAMES),
    ):
        super().__init__()
        self.backbone = Backbone(
            t_input_size, s_input_size, hidden_size, num_head, num_layer, modalities
        )
        for modality in modalities:
            self.add_module(f'{short_name(modality)}_projector', Projector(2 * hidden_size))
        self.encoder_chunks = encoder_chunks

    def projectors(self) -> dict[str, Projector]:
        modalities = self.backbone.modalities
        return {name: getattr(self, f'{short_name(name)}_projector') for name in modalities}

    def forward(self, *views):
        """Streams of the uni-modal views, {modality: streams}, and of the fused view -> the named
        tuple of projections, z_j z_b z_m z_uj z_ub z_um for the published modalities.

        views: uni, fused; of a batch in two parts (see `Backbone.encode`) uni, fused, uni, fused.
        """
        projectors = self.projectors()
        modalities = tuple(name for name in projectors if name in views[0])
        parts = [
            [*({name: uni[name]} for name in modalities), fused]
            for uni, fused in zip(views[::2], views[1::2], strict=True)
        ]
        *features, y_u = self.encode_parts(parts)
        z = self.project([projectors[name] for name in modalities], features, y_u)
        return projections_of(modalities)(*z)

    def encode_parts(self, parts) -> tuple[torch.Tensor, ...]:
        """Features (N, 2H) of each view of a batch, given as the views of each of its parts."""
        features = [self.encode_views(*views) for views in parts]
        return tuple(torch.cat(of_view) for of_view in zip(*features, strict=True))

    def encode_views(self, *views) -> tuple[torch.Tensor, ...]:
        """Features (N, 2H) of each of several views, given as streams. The encoder sees them as one
        batch.
        """
        if self.encoder_chunks == 1:
            return self.encode_chunk(*views)
        num_clips = len(next(iter(views[0].values()))[0])
        num_chunks = min(self.encoder_chunks, num_clips)
        bounds = [num_clips * chunk // num_chunks for chunk in range(num_chunks + 1)]
        features = []
        for first, end in pairwise(bounds):
            chunk = [clips_of(view, first, end) for view in views]
            features.append(
                checkpoint(self.encode_chunk, *chunk, use_reentrant=False, preserve_rng_state=False)
            )
        return tuple(torch.cat(of_view) for of_view in zip(*features, strict=True))

    def encode_chunk(self, *views):
        return self.backbone.ma_encoder(*self.embed_views(views)).chunk(len(views))

    def embed_views(self, views):
        """Tokens (temporal, spatial) of the clips of all views."""
        embedded = [self.backbone.embed(view) for view in views]
        temporal, spatial = zip(*embedded, strict=True)
        return torch.cat(temporal), torch.cat(spatial)

    @staticmethod
    def project(projectors, features, y_u):
        """Each projection is a BatchNorm batch of its own. The fused ones come first, as in the
        official code; this order shows in the running statistics.
        """
        fused = [project(y_u) for project in projectors]
        uni = [project(y) for project, y in zip(projectors, features, strict=True)]
        return uni + fused

    def freeze_unused(self, modalities) -> None:
        """Freeze what pre-training on these modalities never uses, so that DDP and Adam ignore it."""
        for modules in (self.backbone.embeddings(), self.projectors()):
            for modality, module in modules.items():
                if modality not in modalities:
                    module.requires_grad_(False)
        if len(modalities) == 1:
            self.backbone.mm_fusion.requires_grad_(False)


def clips_of(view, first, end):
    """The streams of some of a view's clips."""
    return {
        modality: (temporal[first:end], spatial[first:end])
        for modality, (temporal, spatial) in view.items()
    }


class EarlyFusionBaseline(UmURL):
    """The simple baseline of the paper's figure (a): two views, each fused from all modalities, and
    one projector (that of the first modality). Its state dict is UmURL's.
    """

    def forward(self, *views):
        """Streams of two views of the same modalities -> (z, z), each (B, 4096). A batch in two
        parts has four: two of each part.
        """
        parts = zip(views[::2], views[1::2], strict=True)
        first_features, second_features = self.encode_parts(parts)
        projector = self.projectors()[next(iter(views[0]))]
        return projector(first_features), projector(second_features)

    def freeze_unused(self, modalities) -> None:
        super().freeze_unused(modalities)
        for modality in modalities[1:]:
            self.projectors()[modality].requires_grad_(False)
