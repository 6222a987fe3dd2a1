"""Save and load trees of arrays and networks. Nothing is ever unpickled or evaluated."""

from purenet.checkpoint.networks import load_network as load_network
from purenet.checkpoint.networks import save_network as save_network
from purenet.checkpoint.trees import load as load
from purenet.checkpoint.trees import load_metadata as load_metadata
from purenet.checkpoint.trees import save as save
