"""UmURL: one early-fusion transformer for joint, bone and motion, and the projectors it is pre-trained with.

Module and parameter names are the release's, so that its checkpoints load. N clips, T frames, H = hidden_size.
"""
import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

PROJECTION = 4096
MAX_LENGTH = 200


class Projections(NamedTuple):
    """Each (B, 4096): z_m of the uni-modal features, z_um of the fused ones through the same projector."""
    z_j: torch.Tensor
    z_b: torch.Tensor
    z_m: torch.Tensor
    z_uj: torch.Tensor
    z_ub: torch.Tensor
    z_um: torch.Tensor


class Embedding(nn.Module):
    """One modality's two streams to width H."""

    def __init__(self, t_input_size, s_input_size, hidden_size):
        super().__init__()
        self.t_embedding, self.s_embedding = (
            nn.Sequential(nn.Linear(size, hidden_size), nn.LayerNorm(hidden_size), nn.ReLU(),
                          nn.Linear(hidden_size, hidden_size)) for size in (t_input_size, s_input_size))

    def forward(self, streams):
        temporal, spatial = streams
        return self.t_embedding(temporal), self.s_embedding(spatial)


class Fusion(nn.Module):
    """The mean of the modalities' embeddings, mixed by one bias-free map per stream."""

    def __init__(self, hidden_size):
        super().__init__()
        self.t_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))
        self.s_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))

    def forward(self, embedded):
        temporal, spatial = (sum(stream) / len(embedded) for stream in zip(*embedded, strict=True))
        return self.t_fusion(temporal), self.s_fusion(spatial)


class PositionEncoding(nn.Module):
    """Sinusoidal positions, a buffer of the checkpoint."""

    def __init__(self, hidden_size):
        super().__init__()
        position = torch.arange(MAX_LENGTH)[:, None]
        frequency = torch.exp(torch.arange(0, hidden_size, 2) * (-math.log(10000.0) / hidden_size))
        pe = torch.zeros(1, MAX_LENGTH, hidden_size)
        pe[0, :, 0::2] = torch.sin(position * frequency)
        pe[0, :, 1::2] = torch.cos(position * frequency)
        self.register_buffer('pe', pe)

    def forward(self, x):
        return x + self.pe[:, :x.shape[1]]


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` on (N, L, H) without its copies of the packed projection; same parameters and start."""

    def __init__(self, hidden_size, num_head):
        super().__init__()
        self.num_head = num_head
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * hidden_size, hidden_size)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden_size))
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x):
        packed = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (part.unflatten(2, (self.num_head, -1)).transpose(1, 2) for part in packed.chunk(3, -1))
        return self.out_proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A post-norm transformer layer, feed-forward as wide as the model."""

    def __init__(self, hidden_size, num_head):
        super().__init__()
        self.self_attn = SelfAttention(hidden_size, num_head)
        self.linear1 = nn.Linear(hidden_size, hidden_size)
        self.linear2 = nn.Linear(hidden_size, hidden_size)
        self.norm1 = nn.LayerNorm(hidden_size)
        self.norm2 = nn.LayerNorm(hidden_size)

    def forward(self, x):
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(torch.relu(self.linear1(x))))


class Transformer(nn.Module):
    def __init__(self, hidden_size, num_head, num_layer):
        super().__init__()
        self.layers = nn.ModuleList(Layer(hidden_size, num_head) for _ in range(num_layer))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Encoder(nn.Module):
    """A transformer per stream, shared by all modalities; max over tokens; (N, 2H) = [temporal, spatial]."""

    def __init__(self, hidden_size, num_head, num_layer):
        super().__init__()
        self.pe = PositionEncoding(hidden_size)
        self.t_tr, self.s_tr = (Transformer(hidden_size, num_head, num_layer) for _ in range(2))

    def forward(self, temporal, spatial):
        return torch.cat((self.t_tr(self.pe(temporal)).amax(1), self.s_tr(spatial).amax(1)), 1)


class Backbone(nn.Module):
    """Embeddings, fusion and encoder: what the downstream tasks keep."""

    def __init__(self, t_input_size, s_input_size, hidden_size, num_head, num_layer):
        super().__init__()
        self.j_emb, self.b_emb, self.m_emb = (Embedding(t_input_size, s_input_size, hidden_size) for _ in range(3))
        self.mm_fusion = Fusion(hidden_size)
        self.ma_encoder = Encoder(hidden_size, num_head, num_layer)

    def embeddings(self):
        return {'joint': self.j_emb, 'bone': self.b_emb, 'motion': self.m_emb}

    def embed(self, streams):
        """{modality: streams} -> tokens (temporal, spatial): one modality as it is, two or three fused."""
        embeddings = self.embeddings()
        return self.fuse([embeddings[modality](pair) for modality, pair in streams.items()])

    def fuse(self, embedded):
        return embedded[0] if len(embedded) == 1 else self.mm_fusion(embedded)

    def encode(self, streams):
        """{modality: (temporal (N, 64, 150), spatial (N, 50, 192))} -> features (N, 2H)."""
        return self.ma_encoder(*self.embed(streams))


def projector(size):
    """2H -> 4096, an expander in the manner of VICReg."""
    return nn.Sequential(nn.Linear(size, size), nn.BatchNorm1d(size), nn.ReLU(),
                         nn.Linear(size, size), nn.BatchNorm1d(size), nn.ReLU(), nn.Linear(size, PROJECTION))


class UmURL(nn.Module):
    """The pre-training model: backbone and one projector per modality."""

    def __init__(self, t_input_size, s_input_size, hidden_size, num_head=1, num_layer=1):
        super().__init__()
        self.backbone = Backbone(t_input_size, s_input_size, hidden_size, num_head, num_layer)
        self.j_projector, self.b_projector, self.m_projector = (projector(2 * hidden_size) for _ in range(3))
        self.parts = 1  # in which `encode_views` takes a batch; with several, activations are computed again

    def projectors(self):
        return {'joint': self.j_projector, 'bone': self.b_projector, 'motion': self.m_projector}

    def forward(self, uni, fused):
        """Streams of views 1-3, one modality each, and of view 4, all three -> Projections.

        With fewer modalities: a plain tuple, the uni-modal z's and then the fused ones.
        """
        projectors = {modality: projector for modality, projector in self.projectors().items() if modality in uni}
        *features, y_u = self.encode_views(*({modality: uni[modality]} for modality in projectors), fused)
        z = self.project(projectors.values(), features, y_u)
        return Projections(*z) if len(z) == len(Projections._fields) else z

    def encode_views(self, *views):
        """Features (N, 2H) of each of several views, given as streams: all are one batch for the encoder.

        With `parts` > 1 the clips pass in so many parts, and the backward computes each part's activations again: the
        same features and gradients, in the memory of one part. The encoder treats every clip by itself, so this is
        exact; projectors and objective, which do not, still see the whole batch.
        """
        if self.parts == 1:
            return self.encode_part(*views)
        clips = len(next(iter(views[0].values()))[0])
        count = min(self.parts, clips)
        bounds = [clips * part // count for part in range(count + 1)]
        parts = []
        for first, end in zip(bounds, bounds[1:], strict=False):
            part = [{modality: tuple(stream[first:end] for stream in pair) for modality, pair in view.items()}
                    for view in views]
            parts.append(checkpoint(self.encode_part, *part, use_reentrant=False, preserve_rng_state=False))
        return tuple(torch.cat(features) for features in zip(*parts, strict=True))

    def encode_part(self, *views):
        temporal, spatial = (torch.cat(stream) for stream in zip(*map(self.backbone.embed, views), strict=True))
        return self.backbone.ma_encoder(temporal, spatial).chunk(len(views))

    @staticmethod
    def project(projectors, features, y_u):
        """Each projection is a BatchNorm batch of its own; the fused ones come first, as in the release (it shows in
        the running statistics)."""
        fused = [project(y_u) for project in projectors]
        return *(project(y) for project, y in zip(projectors, features, strict=True)), *fused

    def train_only(self, modalities):
        """Freeze what a pre-training on these modalities never uses: DDP and Adam then leave it alone."""
        unused = [part for parts in (self.backbone.embeddings(), self.projectors())
                  for modality, part in parts.items() if modality not in modalities]
        for part in unused + [self.backbone.mm_fusion] * (len(modalities) == 1):
            part.requires_grad_(False)


class FusedViews(UmURL):
    """The paper's simple baseline, figure (a): two views, each fused from all modalities, and one projector, which is
    the first modality's. The state dict is UmURL's."""

    def forward(self, first, second):
        """Streams of two views of the same modalities -> (z, z), each (B, 4096)."""
        first_features, second_features = self.encode_views(first, second)
        projector = self.projectors()[next(iter(first))]
        return projector(first_features), projector(second_features)

    def train_only(self, modalities):
        super().train_only(modalities)
        for modality in modalities[1:]:
            self.projectors()[modality].requires_grad_(False)
