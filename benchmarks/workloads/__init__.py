"""What the arms race on: a file a workload. To add one, write the file and name it here."""

from collections.abc import Mapping

from benchmarks.workloads import cnn, net, resnet18, vit
from benchmarks.workloads.workload import Workload

WORKLOADS: Mapping[str, Workload] = {
    "net": net.WORKLOAD,
    "cnn": cnn.WORKLOAD,
    "resnet18": resnet18.WORKLOAD,
    "vit": vit.WORKLOAD,
}
