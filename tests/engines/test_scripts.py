"""The line of a script or unit that starts a server, and the variables that are set there."""

import re
from pathlib import Path

import pytest

from infertune.engines.scripts import command_line
from infertune.engines.vllm.command import read_command
from infertune.errors import UsageError

STARTS = re.compile(r"\bvllm\s+serve\b")


@pytest.mark.parametrize(
    ("setting", "environment"),
    [
        ("export CUDA_VISIBLE_DEVICES=0 HF_TOKEN=hf_1", (("CUDA_VISIBLE_DEVICES", "0"), ("HF_TOKEN", "hf_1"))),
        ('export VLLM_X="a b"  # for the chat team', (("VLLM_X", "a b"),)),
        ("declare -x VLLM_X='a'", (("VLLM_X", "a"),)),
        ("VLLM_X=1", ()),
        ("export VLLM_X", ()),
        ("VLLM_X=1\nexport VLLM_X", (("VLLM_X", "1"),)),
        ("export VLLM_X=1; export VLLM_Y=2", (("VLLM_X", "1"), ("VLLM_Y", "2"))),
        ("VLLM_X=1 other", ()),
    ],
)
def test_each_variable_of_a_line_is_one(setting: str, environment: tuple[tuple[str, str], ...]) -> None:
    found = command_line(f"#!/bin/sh\n{setting}\nvllm serve m/x\n", STARTS)
    assert found and (found.text, found.environment) == ("vllm serve m/x", environment)


@pytest.mark.parametrize(
    "setting",
    ['Environment="VLLM_USE_V1=1" "VLLM_API_KEY=sk-1"', "Environment=VLLM_USE_V1=1 VLLM_API_KEY=sk-1"],
)
@pytest.mark.parametrize("start", ["ExecStart=", "ExecStart=-", "ExecStart=!!"])
def test_a_unit_sets_several_variables_and_starts_with_a_prefix(setting: str, start: str) -> None:
    text = f"[Unit]\nDescription=vllm serve, it's ours\n[Service]\n{start}/opt/vllm serve m/x --port 1\n{setting}\n"
    found = read_command(text, file="v.service")
    assert (found.program, found.environment) == (("/opt/vllm", "serve"), (("VLLM_USE_V1", "1"),))
    assert found.secrets == ("VLLM_API_KEY",)


def test_the_variables_of_a_units_files_win(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("; a comment\nN=4\nP=1\n")
    (tmp_path / "b.env").write_text('# a comment\nN=16\nVLLM_USE_V1=1\nVLLM_API_KEY="sk-1"\n')
    files = f"EnvironmentFile={tmp_path}/a.env\nEnvironmentFile=-{tmp_path}/b.env\n"
    command = "Environment=N=8\nExecStart=vllm serve m/x --max-num-seqs ${N} --port $P\n"
    found = read_command(f"[Service]\n{files}{command}", file="v.service")
    assert (found.settings, found.server) == (("--max-num-seqs=16",), ("--port=1",))
    assert (found.environment, found.secrets) == ((("VLLM_USE_V1", "1"),), ("VLLM_API_KEY",))
    with pytest.raises(UsageError, match=r"--port takes a variable"):
        read_command(f"[Service]\n{files}EnvironmentFile=\n{command}", file="v.service")


def test_a_units_file_that_is_not_here_may_set_what_the_command_uses() -> None:
    unit = "[Service]\nEnvironmentFile=-/absent/vllm.env\nEnvironment=N=8\nExecStart=vllm serve m/x --max-num-seqs "
    with pytest.raises(UsageError, match=r"\$N is set by EnvironmentFile"):
        read_command(unit + "$N\n", file="v.service")
    assert read_command(unit + "4\n", file="v.service").settings == ("--max-num-seqs=4",)


def test_what_systemd_alone_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="--served-model-name takes a variable"):
        read_command("[Service]\nUser=v\nExecStart=vllm serve m/x --served-model-name %i\n", file="v.service")


@pytest.mark.parametrize(
    "line",
    [
        'echo "Starting vllm serve"',
        'pkill -f "vllm serve" || true',
        'if pgrep -f "vllm serve"; then exit; fi',
        "docker pull vllm/vllm-openai:latest",
        "sudo docker rm -f vllm/vllm-openai",
        'usage() { echo "usage: vllm serve MODEL"; }',
        'usage() {\n  printf "usage: vllm serve MODEL"\n}',
        '[ -n "$1" ] || { echo "usage: vllm serve MODEL" >&2; exit 1; }',
        'prepare || echo "vllm serve m/y cannot start"',
        'if prepare\nthen echo "vllm serve m/y"\nfi',
        "cat <<EOF\nIt's vllm serve m/y\nEOF",
        "usage() { cat >&2 <<'END'\nvllm serve m/y\nEND\n}",
    ],
)
def test_a_line_that_only_names_a_server_does_not_start_it(line: str) -> None:
    assert read_command(f"#!/bin/sh\n{line}\nvllm serve m/x --seed 1\n", file="run.sh").settings == ("--seed=1",)


@pytest.mark.parametrize(
    ("before", "given", "settings"),
    [
        ("MODEL=m/x", "$MODEL", ()),
        ("MODEL=m/x\nN=4", '"${MODEL}" --max-num-seqs $N', ("--max-num-seqs=4",)),
        ("ORG=m\nMODEL=$ORG/x\nN=${N:-8}", "$MODEL --max-num-seqs=$N", ("--max-num-seqs=8",)),
        ("MODEL=m/x", "$MODEL --max-num-seqs ${N:-8}", ("--max-num-seqs=8",)),
        ('ARGS="--max-num-seqs 4 --dtype half"', "m/x $ARGS", ("--max-num-seqs=4", "--dtype=half")),
        ("ARGS=(\n  m/x  # it's ours (or was)\n  --max-num-seqs 4\n)\nARGS+=(--dtype half)", '"${ARGS[@]}"',
         ("--max-num-seqs=4", "--dtype=half")),
        ("BASE=(--max-num-seqs 4)\nARGS=(\"${BASE[@]}\" --dtype half)", 'm/x "${ARGS[@]}"',
         ("--max-num-seqs=4", "--dtype=half")),
        ("declare -a ARGS=(--dtype half)", 'm/x "${ARGS[@]}"', ("--dtype=half",)),
        ('ARGS="--max-num-seqs 8"\nARGS+=" --dtype half"', "m/x $ARGS", ("--max-num-seqs=8", "--dtype=half")),
        ('N=1\nN+=6', "m/x --max-num-seqs $N", ("--max-num-seqs=16",)),
        ("MODEL=m/x; N=4", "$MODEL --max-num-seqs $N", ("--max-num-seqs=4",)),
        ("MODEL=m/x; N=4; cd /", "$MODEL --max-num-seqs $N", ("--max-num-seqs=4",)),
        ("export MODEL='m/x'; readonly N=4;  # N=5; N=6", "$MODEL --max-num-seqs $N", ("--max-num-seqs=4",)),
        ("{\nN=4\n}", "m/x --max-num-seqs $N", ("--max-num-seqs=4",)),
        ("A='a'", "m/x --hf-overrides '{\"rope_theta\": \"$A\"}'", ('--hf-overrides={"rope_theta": "$A"}',)),
    ],
)  # fmt: skip
def test_a_script_says_what_its_variables_stand_for(before: str, given: str, settings: tuple[str, ...]) -> None:
    found = read_command(f"#!/bin/bash\n{before}\nexec vllm serve {given}\n", file="run.sh")
    assert (found.model, found.settings) == ("m/x", settings)


def test_a_variable_may_hold_the_image() -> None:
    text = "#!/bin/sh\nIMAGE=vllm/vllm-openai:v0.10\ndocker run --gpus all $IMAGE --model m/x --seed 1\n"
    found = read_command(text, file="run.sh")
    assert found.program[-1] == "vllm/vllm-openai:v0.10" and found.settings == ("--seed=1",)


def test_what_the_script_does_not_say_is_refused() -> None:
    with pytest.raises(UsageError, match="the model takes a variable"):
        read_command("#!/bin/sh\nN=$1\nvllm serve $N\n", file="run.sh")


def test_a_value_within_quotes_may_go_over_lines() -> None:
    text = '#!/bin/sh\nvllm serve m/x \\\n --speculative-config \'{\n  "method": "ngram"\n }\' \\\n --port 1\n'
    assert read_command(text, file="run.sh").settings == ('--speculative-config={ "method": "ngram" }',)


def test_a_blank_behind_a_backslash_is_told_with_its_line() -> None:
    with pytest.raises(UsageError, match="line 2: a blank stands behind the backslash"):
        read_command("#!/bin/sh\nvllm serve m/x \\ \n --port 1\n", file="run.sh")


def test_variables_may_be_set_on_the_line_of_the_server() -> None:
    found = read_command("MODEL=m/x; N=4; vllm serve $MODEL --max-num-seqs $N\n", file="run.sh")
    assert (found.model, found.settings) == ("m/x", ("--max-num-seqs=4",))


@pytest.mark.parametrize(
    ("sets", "where"),
    [
        ('if [ "$1" = big ]; then\nN=256\nelse\nN=4\nfi', "in a branch"),
        ('if [ "$1" = big ]\nthen N=256\nelif true; then\n:\nfi', "in a branch"),
        ('if [ "$1" = big ]; then N=256; fi  # else 4', "in a branch"),
        ('case "$1" in\nbig|huge) N=256 ;;\n*)\n  N=4\n  ;;\nesac', "in a branch"),
        ('case "$1" in big|huge) N=256;; (*) N=4; esac', "in a branch"),
        ("for i in 1 2; do\nN=$((N+1))\ndone", "in a loop"),
        ('while [ "$#" -gt 0 ]; do\ncase $1 in\n-n) N=$2; shift ;;\nesac\nshift\ndone', "in a loop"),
        ("until ready; do N=5; done < file", "in a loop"),
        ("for N in 1 2; do :; done", "in a loop"),
        ("set_n() {\nN=8\n}\nset_n", "in a function"),
        ("function set_n\n{\nlocal M=1 N=8\n}\nset_n", "in a function"),
        ("set_n() { N=8; }", "in a function"),
        ('[ "$1" = big ] && N=256', "behind &&"),
        ('[[ -n "$1" && -n "$2" ]] || N=256', "behind ||"),
        ('[ "$1" = big ] && { M=1; N=256; }', "behind &&"),
        ("(\nN=8\n)", "in a subshell"),
        ("N=$(nproc --all)", "by a command"),
        ('N="$(cat "$FILE" | head -1)"', "by a command"),
        ("N=`cat n`", "by a command"),
        ("read -r N < file", "by read"),
        ("((N++))", "by arithmetic"),
        ("let N=N*2", "by arithmetic"),
        ("unset N", "and unset again"),
        ("while IFS= read -r N; do :; done < file", "in a loop"),
        ("IFS=', ' read -r M N < file", "by read"),
        ("source .env", "by source"),
        (". ./env.sh", "by source"),
        ('[ -f "$E" ] && source "$E"', "by source"),
        ("set -a; . ./.env; set +a", "by source"),
        ("eval N=5", "by eval"),
        ("export $(grep -v '^#' .env | xargs)", "by export"),
        ('eval "$(settings)"', "by eval"),
        ("set_n() (\nN=8\n)\nset_n", "in a function"),
        ("set_n() { N=16; }; N=8; set_n", "in a function"),
        ("set_n() {\nN=16\n}\nN=8\nif ! A='b c' set_n 3 > log; then\nexit\nfi", "in a function"),
        ("set_m() { set_n; }\nset_n() { N=16; set_m; }\nN=8\nset_m || exit", "in a function"),
        ("set_n() { source .env; }\nN=8\nset_n", "by source"),
        ("(\nN=8\n) > log", "in a subshell"),
        ("(\nN=8\n)>log &", "in a subshell"),
        ("(\nN=8\n) 2>&1 | tee log", "in a subshell"),
        ("if true; then\n(\n:\n) &> log\nelse\nN=8\nfi", "in a branch"),
        ("bash <<EOF\nN=2\nEOF", "in a subshell"),
        ("if true; then\nN+=0\nfi", "in a branch"),
        ("if true; then\nexport N=8\nfi", "in a branch"),
        ("if true; then\nN=8\nfi\nN=${N:-4}", "in a branch"),
    ],
)
@pytest.mark.parametrize("used", ["$N", '"${N}"', "${N:-8}"])
def test_a_variable_that_may_have_been_set_is_refused_where_it_is_used(sets: str, where: str, used: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_command(f"#!/bin/bash\nN=1\n{sets}\nvllm serve m/x --max-num-seqs {used}\n", file="run.sh")
    assert str(refused.value) == f"--current run.sh: $N is set {where}; write its value in the command"
    found = read_command(f"#!/bin/bash\nN=1\n{sets}\nvllm serve m/x --api-key $N --dtype half\n", file="run.sh")
    assert found.settings == ("--dtype=half",)


@pytest.mark.parametrize(
    ("sets", "where"),
    [
        ('if [ -n "$DEBUG" ]; then\nARGS+=(--enforce-eager)\nfi', "in a branch"),
        ('if [ -n "$DEBUG" ]; then ARGS+=(\n  --enforce-eager\n); fi', "in a branch"),
        ('[ -n "$DEBUG" ] && ARGS+=(--enforce-eager)', "behind &&"),
        ('for arg in "$@"; do ARGS+=("$arg"); done', "in a loop"),
        ("ARGS+=(--max-num-seqs $(nproc))", "by a command"),
        ("ARGS[1]=half", "element by element"),
        ("ARGS[${#ARGS[@]}]=--enforce-eager", "element by element"),
        ("source .env", "by source"),
        ('MORE=()\nif true; then\nMORE=(--seed 1)\nfi\nARGS+=("${MORE[@]}")', ""),
    ],
)
def test_an_array_that_may_have_grown_is_refused(sets: str, where: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_command(f'#!/bin/bash\nARGS=(--dtype half)\n{sets}\nvllm serve m/x "${{ARGS[@]}}"\n', file="run.sh")
    said = f"$ARGS is set {where}" if where else "$MORE is set in a branch"
    assert str(refused.value) == f"--current run.sh: {said}; write its value in the command"


@pytest.mark.parametrize("program", ["exec $START", "$START", "docker run --gpus all $IMAGE --model m/x"])
def test_a_program_that_depends_on_a_branch_is_refused(program: str) -> None:
    sets = 'if true; then\nSTART="vllm serve m/x"\nIMAGE=vllm/vllm-openai:v0.10\nfi'
    with pytest.raises(UsageError, match=r"\$(START|IMAGE) is set in a branch; write its value"):
        read_command(f"#!/bin/sh\n{sets}\n{program}\n", file="run.sh")


@pytest.mark.parametrize(
    "text",
    [
        "N=8\nif true; then\nM=4\nfi\nvllm serve m/x --max-num-seqs $N",
        "if true; then\nN=4\nfi\nN=8\nvllm serve m/x --max-num-seqs $N",
        "if true; then\nN=8\nexec vllm serve m/x --max-num-seqs $N\nfi",
        "if true; then\nN=4\nelse\nN=8\nexec vllm serve m/x --max-num-seqs $N\nfi",
        "N=8\nwhile true; do\nvllm serve m/x --max-num-seqs $N\ndone",
        "main() {\nlocal N=8\nexec vllm serve m/x --max-num-seqs $N\n}\nmain",
        'case "$1" in\nsmall)\nN=4\n;;\n*)\nN=8\nvllm serve m/x --max-num-seqs $N\n;;\nesac',
        "if true; then\nM=4\nfi\nvllm serve m/x --max-num-seqs 8 --served-model-name '$M'",
        "source .env\nN=8\nvllm serve m/x --max-num-seqs $N",
        "log() { local N=16; M=2; }\nN=8\nlog\nvllm serve m/x --max-num-seqs $N",
        "set_n() { N=16; }\nset_n\nN=8\nvllm serve m/x --max-num-seqs $N",
        "main() {\nN=8\nvllm serve m/x --max-num-seqs $N\nN=16\nmain\n}\nmain",
        "N=8\npython - <<EOF\nN=2\nEOF\nvllm serve m/x --max-num-seqs $N",
        "N=8\ncat > unit <<-'EOF' 2>&1\nvllm serve m/y\n  EOF\nvllm serve m/x --max-num-seqs $N",
        "N=8\ncat <<<EOF; echo $((1<<N)) '<<A' # <<B\nvllm serve m/x --max-num-seqs $N",
        "bash <<EOF\nN=8\nvllm serve m/x --max-num-seqs $N\nEOF",
        "(\ncd /\n) > log\nN=8\nserve() {\nvllm serve m/x --max-num-seqs $N\n}",
        "serve() {\nlocal N=8\nexec vllm serve m/x --max-num-seqs $N\n}\nN=2\nserve",
        "N=8\nwhile true; do\nvllm serve m/x --max-num-seqs $N\ndone\nN=2",
        "N=8\nif true; then\nvllm serve m/x --max-num-seqs $N\nfi\nN=2",
    ],
)
def test_what_is_sure_where_the_server_starts_is_taken(text: str) -> None:
    assert read_command(f"#!/bin/sh\n{text}\n", file="run.sh").settings == ("--max-num-seqs=8",)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('N=8\nserve() {\nSERVER\n}\nif [ "$1" = big ]; then\nN=64\nfi\nserve', "in a branch"),
        ("N=8\nserve() {\nSERVER\n}\nN=2\nserve", "on a later line"),
        ("serve() {\nSERVER\n}\nN=2\nserve", "on a later line"),
        ("N=8\nserve() (\nSERVER\n)\nN=2\nserve", "on a later line"),
        ("serve() {\nN=8\nset_n\nSERVER\n}\nset_n() { N=16; }\nserve", "in a function"),
        ("N=8\nserve() {\nif true; then\nSERVER\nfi\n}\nsource .env\nserve", "by source"),
        ("N=8\nwhile true; do\nSERVER\nN=2\ndone", "on a later line"),
        ("while true; do\nN=8\nfor i in 1 2; do\nSERVER\nN=2\ndone\ndone", "on a later line"),
    ],
)
def test_what_later_lines_set_counts_where_a_function_or_a_loop_starts_the_server(text: str, where: str) -> None:
    text = text.replace("SERVER", "vllm serve m/x --max-num-seqs ${N:-4}")
    with pytest.raises(UsageError) as refused:
        read_command(f"#!/bin/bash\n{text}\n", file="run.sh")
    assert str(refused.value) == f"--current run.sh: $N is set {where}; write its value in the command"


@pytest.mark.parametrize(
    "line",
    [
        "source .venv/bin/activate",
        '. "$VENV/bin/activate"',
        "source activate env",
        'source "$(conda info --base)/etc/profile.d/conda.sh"',
        "[ -f ~/.bashrc ] && source ~/.bashrc",
        "source /opt/intel/oneapi/setvars.sh --force > /dev/null",
        'eval "$(conda shell.bash hook)"',
        'eval "$(ssh-agent -s)"',
        'eval set -- "$PARSED"',
    ],
)
@pytest.mark.parametrize("used", ["$N", "${M:-8}"])
def test_what_only_sets_up_a_shell_leaves_the_rest_known(line: str, used: str) -> None:
    found = read_command(f"#!/bin/bash\nN=8\n{line}\nvllm serve m/x --max-num-seqs {used}\n", file="run.sh")
    assert found.settings == ("--max-num-seqs=8",)


def test_a_default_is_not_sure_where_a_file_may_set_the_variable() -> None:
    for text in ("vllm serve m/x --seed ${S:-1}", "T=${S:-1}\nvllm serve m/x --seed $T"):
        with pytest.raises(UsageError, match=r"\$S is set by source; write its value"):
            read_command(f"#!/bin/bash\nsource .env\n{text}\n", file="run.sh")


def test_a_variable_for_the_server_that_a_branch_exports_is_left_out_and_named() -> None:
    text = "#!/bin/sh\nexport VLLM_A=1\nif true; then\nexport VLLM_B=1 OTHER=2\nfi\nvllm serve m/x\n"
    found = read_command(text, file="run.sh")
    assert (found.environment, found.secrets) == ((("VLLM_A", "1"),), ("VLLM_B",))


@pytest.mark.parametrize(
    "given", ['m/x "$@"', "m/x $*", '"$@"', "$1", 'm/x --seed "${@:2}"', "m/x --seed ${1}", "m/x --dtype half $2"]
)
def test_a_scripts_own_arguments_are_refused_with_the_cure(given: str) -> None:
    with pytest.raises(UsageError, match="a script passes its own arguments on here; write what they are, or leave"):
        read_command(f"#!/bin/sh\nset -e\nexec vllm serve {given}\n", file="run.sh")


@pytest.mark.parametrize(
    "command", ["vllm serve m/x $A", "vllm $A m/x; vllm serve", "$A vllm serve m/x", "exec $A vllm serve m/x",
                "docker run $A vllm serve m/x", "docker $A vllm/vllm-openai", 'vllm serve m/x "${A[@]}"']
)  # fmt: skip
def test_no_message_shows_how_a_variable_is_marked_here(command: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_command(f"#!/bin/sh\nset -e\n{command}\n", file="run.sh")
    assert "ue000" not in ascii(str(refused.value)) and "\n" not in str(refused.value)


def test_a_script_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 100 branches and loops within each other"):
        read_command("if true\n" * 20_000 + "vllm serve m/x\n", file="run.sh")
