"""Plans and tables for the tests of studies."""

from pathlib import Path

FLEET = """\
gpu,kind,model,n_gpus,batch_size,tps,result,note
A100,hf,m1,1,1,10,success,a
A100,hf,m1,1,2,30,success,b
A100,hf,m1,2,1,15,success,c
A100,hf,m1,2,2,40,success,d
A100,hf,m2,1,1,8,success,e
A100,hf,m2,1,2,,OOM,f
A100,hf,m2,2,1,12,success,g
A100,hf,m2,2,2,11,success,h
V100,hf,m1,1,1,5,success,i
V100,hf,m1,1,2,9,success,j
V100,hf,m1,2,1,8,success,k
V100,hf,m1,2,2,0,failed,l
V100,hf,m2,1,1,4,success,m
V100,hf,m2,1,2,6,success,n
V100,hf,m2,2,1,5,success,o
V100,hf,m2,2,2,7,success,p
"""

PLAN = """\
title: Two boards
tables:
  - file: fleet.csv
    device: {column: gpu}
    engine: {column: kind}
    model: {column: model}
    workload: infilling
    throughput: tps
    status: result
    knobs: [n_gpus, batch_size]
"""


def written(folder: Path, plan: str = PLAN, fleet: str = FLEET) -> Path:
    """A plan beside its table."""
    (folder / "fleet.csv").write_text(fleet)
    file = folder / "plan.yaml"
    file.write_text(plan)
    return file
