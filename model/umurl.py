"""UmURL: one early-fusion transformer for joint, bone and motion, and the projectors it is
pre-trained with.

Module and parameter names are the official code's, so its checkpoints load. N clips, H =
hidden_size.
"""

import math
from collections import namedtuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

PROJECTION = 4096
MAX_LENGTH = 200


# Each (B, 4096): z_m of the uni-modal features, z_um of the fused features through the same
# projector.
Projections = namedtuple('Projections', 'z_j z_b z_m z_uj z_ub z_um')


class LayerNorm(nn.LayerNorm):
    """LayerNorm that returns its input's dtype, and computes in float32 inside. Under autocast
    torch's own returns float32, which all that follows would then carry through memory.
    """

    def forward(self, x):
        if x.dtype == self.weight.dtype:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return functional.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class Embedding(nn.Module):
    """Map the two streams of one modality to width H."""

    def __init__(self, t_input_size, s_input_size, hidden_size):
        super().__init__()
        self.t_embedding, self.s_embedding = (
            nn.Sequential(
                nn.Linear(size, hidden_size),
                LayerNorm(hidden_size),
                nn.ReLU(),
                nn.Linear(hidden_size, hidden_size),
            )
            for size in (t_input_size, s_input_size)
        )

    def forward(self, streams):
        temporal, spatial = streams
        return self.t_embedding(temporal), self.s_embedding(spatial)


class Fusion(nn.Module):
    """Average the modalities' embeddings, then one bias-free linear map per stream."""

    def __init__(self, hidden_size):
        super().__init__()
        self.t_fusion, self.s_fusion = (
            nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False)) for _ in range(2)
        )

    def forward(self, embedded):
        temporal, spatial = (
            sum(stream[1:], stream[0]) / len(embedded) for stream in zip(*embedded, strict=True)
        )
        return self.t_fusion(temporal), self.s_fusion(spatial)


class PositionEncoding(nn.Module):
    """Sinusoidal positions; a buffer in the checkpoint."""

    def __init__(self, hidden_size):
        super().__init__()
        frequency = torch.exp(torch.arange(0, hidden_size, 2) * (-math.log(10000.0) / hidden_size))
        angle = torch.arange(MAX_LENGTH)[:, None] * frequency
        self.register_buffer('pe', torch.stack((angle.sin(), angle.cos()), 2).flatten(1)[None])

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

    def forward(self, x):
        packed = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (
            each.unflatten(2, (self.num_head, -1)).transpose(1, 2) for each in packed.chunk(3, -1)
        )
        return self.out_proj(
            functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        )


class Layer(nn.Module):
    """A post-norm transformer layer whose feed-forward width is H."""

    def __init__(self, hidden_size, num_head):
        super().__init__()
        self.self_attn = SelfAttention(hidden_size, num_head)
        self.linear1, self.linear2 = (nn.Linear(hidden_size, hidden_size) for _ in range(2))
        self.norm1, self.norm2 = (LayerNorm(hidden_size) for _ in range(2))

    def forward(self, x):
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(torch.relu(self.linear1(x))))


class Transformer(nn.Module):
    def __init__(self, hidden_size, num_head, num_layer):
        super().__init__()
        self.layers = nn.Sequential(*(Layer(hidden_size, num_head) for _ in range(num_layer)))

    def forward(self, x):
        return self.layers(x)


class Encoder(nn.Module):
    """One transformer per stream, shared by all modalities, then max over tokens: (N, 2H) =
    [temporal, spatial].
    """

    def __init__(self, hidden_size, num_head, num_layer):
        super().__init__()
        self.pe = PositionEncoding(hidden_size)
        self.t_tr, self.s_tr = (Transformer(hidden_size, num_head, num_layer) for _ in range(2))

    def forward(self, temporal, spatial):
        return torch.cat((self.t_tr(self.pe(temporal)).amax(1), self.s_tr(spatial).amax(1)), 1)


class Backbone(nn.Module):
    """Embeddings, fusion and encoder: the part that downstream tasks use."""

    def __init__(self, t_input_size, s_input_size, hidden_size, num_head, num_layer):
        super().__init__()
        self.j_emb, self.b_emb, self.m_emb = (
            Embedding(t_input_size, s_input_size, hidden_size) for _ in range(3)
        )
        self.mm_fusion = Fusion(hidden_size)
        self.ma_encoder = Encoder(hidden_size, num_head, num_layer)
        self.hidden_size = hidden_size

    def embeddings(self) -> dict[str, Embedding]:
        return {'joint': self.j_emb, 'bone': self.b_emb, 'motion': self.m_emb}

    def embed(self, streams: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """{modality: streams} -> tokens (temporal, spatial): a single modality unchanged, two or
        three fused.
        """
        embeddings = self.embeddings()
        return self.fuse([embeddings[modality](pair) for modality, pair in streams.items()])

    def fuse(self, embedded):
        return embedded[0] if len(embedded) == 1 else self.mm_fusion(embedded)

    def encode(self, streams: dict) -> torch.Tensor:
        """{modality: (temporal (N, 64, 150), spatial (N, 50, 192))} -> features (N, 2H)."""
        return self.ma_encoder(*self.embed(streams))


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
    computes each chunk's
    activations again: the same features and gradients, in the memory of one chunk. This is exact
    because the encoder treats every clip by itself; projectors and objective still see the whole
    batch.
    """

    def __init__(
        self, t_input_size, s_input_size, hidden_size, num_head=1, num_layer=1, encoder_chunks=1
    ):
        super().__init__()
        self.backbone = Backbone(t_input_size, s_input_size, hidden_size, num_head, num_layer)
        self.j_projector, self.b_projector, self.m_projector = (
            Projector(2 * hidden_size) for _ in range(3)
        )
        self.encoder_chunks = encoder_chunks

    def projectors(self) -> dict[str, Projector]:
        return {'joint': self.j_projector, 'bone': self.b_projector, 'motion': self.m_projector}

    def forward(self, uni, fused):
        """Streams of views 1 to 3 (one modality each) and of view 4 (all three) -> Projections.

        With fewer modalities: a plain tuple of the uni-modal z's, then the fused ones.
        """
        projectors = {
            modality: projector
            for modality, projector in self.projectors().items()
            if modality in uni
        }
        *features, y_u = self.encode_views(
            *({modality: uni[modality]} for modality in projectors), fused
        )
        z = self.project(projectors.values(), features, y_u)
        return Projections(*z) if len(z) == len(Projections._fields) else z

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
        for first, end in zip(bounds, bounds[1:], strict=False):
            chunk = [
                {
                    modality: tuple(stream[first:end] for stream in pair)
                    for modality, pair in view.items()
                }
                for view in views
            ]
            features.append(
                checkpoint(self.encode_chunk, *chunk, use_reentrant=False, preserve_rng_state=False)
            )
        return tuple(torch.cat(of_view) for of_view in zip(*features, strict=True))

    def encode_chunk(self, *views):
        temporal, spatial = (
            torch.cat(stream) for stream in zip(*map(self.backbone.embed, views), strict=True)
        )
        return self.backbone.ma_encoder(temporal, spatial).chunk(len(views))

    @staticmethod
    def project(projectors, features, y_u):
        """Each projection is a BatchNorm batch of its own. The fused ones come first, as in the
        official code; this order shows in the running statistics.
        """
        fused = [project(y_u) for project in projectors]
        return *(project(y) for project, y in zip(projectors, features, strict=True)), *fused

    def freeze_unused(self, modalities) -> None:
        """Freeze what pre-training on these modalities never uses, so that DDP and Adam ignore it."""
        unused = [
            module
            for modules in (self.backbone.embeddings(), self.projectors())
            for modality, module in modules.items()
            if modality not in modalities
        ]
        for module in unused + [self.backbone.mm_fusion] * (len(modalities) == 1):
            module.requires_grad_(False)


class EarlyFusionBaseline(UmURL):
    """The simple baseline of the paper's figure (a): two views, each fused from all modalities, and
    one projector (that of the first modality). Its state dict is UmURL's.
    """

    def forward(self, first, second):
        """Streams of two views of the same modalities -> (z, z), each (B, 4096)."""
        first_features, second_features = self.encode_views(first, second)
        projector = self.projectors()[next(iter(first))]
        return projector(first_features), projector(second_features)

    def freeze_unused(self, modalities) -> None:
        super().freeze_unused(modalities)
        for modality in modalities[1:]:
            self.projectors()[modality].requires_grad_(False)
