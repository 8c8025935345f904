"""From a command line to running processes: arguments, devices, launchers, exit statuses."""

import logging
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from torch import nn
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, get_error_handler
from torch.distributed.elastic.multiprocessing.redirects import redirect_stderr
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ..checkpoint.checkpointer import Checkpointer
from ..config.checks.training import check_batch, check_process_timeout
from ..config.device import claim_gpu, count_gpus, find_available_device, is_started_by_torchrun
from ..config.keys import AUTO
from ..data.configuration import read_config
from ..errors import InputError, TrainingError, shorten_error
from ..logs import open_logs
from ..precision import is_gpu
from .failures import describe_failure, is_known_failure
from .output_folder import make_output_folder

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # the shell's exit status for a program ended by Ctrl-C


def run(main: Callable[[CfgNode, Namespace], object], args: Namespace) -> int:
    """Calls ``main(cfg, args)`` in every process that `args` (from `parse_training`) or torchrun asks for.

    After a failure that `describe_failure` knows, one line on stderr says what happened; other exceptions pass.

    Returns:
        the exit status: 0, 1 after such a failure, or 130 after Ctrl-C or, while it trains, SIGTERM
    """
    cfg = None
    try:
        cfg = load_config(args)
        make_output_folder(cfg.OUTPUT_DIR)
        processes = args.num_gpus if cfg.MODEL.DEVICE == "cuda" else args.num_processes or 1
        if is_started_by_torchrun():
            _work_together(main, cfg, args)
        elif processes * args.num_machines > 1:
            if not args.eval_only and cfg.SOLVER.IMS_PER_BATCH != AUTO:
                check_batch(cfg, processes * args.num_machines)  # before they start, which takes seconds
            start_processes(main, cfg, args, processes)
        else:
            _work(main, cfg, args)
        return 0
    except Exception as error:
        if (sentence := describe_failure(error, cfg)) is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{_describe_resuming(cfg, args)}", file=sys.stderr)
        return INTERRUPTED


def start_processes(
    main: Callable[[CfgNode, Namespace], object], cfg: CfgNode, args: Namespace, processes: int
) -> None:
    """Starts `main` in as many processes here, and waits for them, as torchrun does.

    Raises:
        InputError: the sentence that ended one of them, or no meeting with the other machines
        TrainingError: a signal from outside ended one of them
        KeyboardInterrupt: they have ended after Ctrl-C or SIGTERM
        ChildFailedError: the traceback of any other error in one of them
    """
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):  # they log what is raised here
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    replaced = {number: signal.signal(number, _pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        # In a thread, because in the main one elastic takes signals for itself: it would send those of a terminal to
        # processes that have them already, and kill, after 30 seconds, what still writes its checkpoint.
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
            config = LaunchConfig(
                min_nodes=args.num_machines,
                max_nodes=args.num_machines,
                nproc_per_node=processes,
                run_id="convmae_det",
                max_restarts=0,
                logs_specs=DefaultLogsSpecs(folder),
                **_choose_meeting_point(args, cfg.SOLVER.PROCESS_TIMEOUT),
            )
            thread.submit(elastic_launch(config, _work_apart), main, cfg, args).result()
    except ChildFailedError as error:
        if reason := _find_reason(error, processes):
            raise reason from error
        raise
    except dist.DistError as error:
        raise InputError(
            f"the {args.num_machines} machines don't meet at {args.dist_url} ({shorten_error(error)}): let --dist-url "
            "name a free port of the first, and start all of them within SOLVER.PROCESS_TIMEOUT"
        ) from error
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


def _choose_meeting_point(args: Namespace, seconds: float) -> dict:
    """Chooses where the launchers of all machines meet, for LaunchConfig. One alone takes a free port of its own."""
    if args.num_machines == 1:
        return {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
    address = re.fullmatch(r"tcp://(.+:\d+)", args.dist_url)
    if address is None:
        raise InputError(
            f"--dist-url is {args.dist_url!r}; with --num-machines {args.num_machines} it must be tcp://HOST:PORT, the "
            "same for all: the first machine and a free port of it"
        )
    configs = {"rank": args.machine_rank, "timeout": max(1, round(seconds))}
    return {"rdzv_backend": "static", "rdzv_endpoint": address[1], "rdzv_configs": configs}


def _pass_on(number: int, frame: object) -> None:
    """Sends SIGTERM to the processes that train; they end together, and this one with them.

    Of SIGTERM, a second changes nothing: Ctrl-C in a terminal reaches them too.
    """
    children = multiprocessing.active_children()
    if not children:
        os._exit(INTERRUPTED)  # other machines are still awaited, in a thread that no exception reaches
    for process in children:
        process.terminate()


def _work_apart(main: Callable, cfg: CfgNode, args: Namespace) -> None:
    """:func:`_work_together` in a process of :func:`start_processes`, to which elastic hands what is recorded."""
    try:
        _work_together(main, cfg, args)
    except Exception as error:
        if (sentence := describe_failure(error, cfg)) is None:
            raise
        get_error_handler().record_exception(InputError(sentence))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _find_reason(error: ChildFailedError, processes: int) -> BaseException | None:
    """Finds what ended the first process here that failed; None if its traceback has to be seen."""
    _, failure = error.get_first_failure()
    if failure.exitcode in (INTERRUPTED, -signal.SIGTERM, -signal.SIGINT):
        return KeyboardInterrupt()
    if failure.exitcode < 0:
        return TrainingError(
            f"process {failure.local_rank} of 0 to {processes - 1} here was ended by {failure.signal_name()}: start "
            "all again with --resume"
        )
    # What elastic has recorded of an exception is "its class: its message".
    text = failure.message["message"] if isinstance(failure.message, dict) else failure.message
    kind, _, sentence = text.partition(": ")
    return InputError(sentence) if kind == InputError.__name__ else None


def _work_together(main: Callable, cfg: CfgNode, args: Namespace) -> None:
    """:func:`_work` as one of several processes, with the environment variables of torchrun."""
    if "OMP_NUM_THREADS" not in os.environ and not is_gpu(cfg.MODEL.DEVICE):
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["LOCAL_WORLD_SIZE"])))
    _join_processes(cfg)
    _work(main, cfg, args)
    dist.destroy_process_group()


def _work(main: Callable, cfg: CfgNode, args: Namespace) -> None:
    set_up_logging(cfg.OUTPUT_DIR)
    logger.info(f"Command line: {' '.join(sys.argv)}")
    logger.info(f"Device: {cfg.MODEL.DEVICE}; processes: {comm.get_world_size()}; PyTorch {torch.__version__}")
    logger.debug(f"Environment:\n{_list_versions()}")
    if ":" in cfg.MODEL.DEVICE:  # for what asks for the current GPU, as Detectron2 does for memory in the log
        torch.cuda.set_device(cfg.MODEL.DEVICE)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only
    main(cfg, args)


def _list_versions() -> str:
    """Lists versions, GPUs and compilers, as Detectron2 collects them for bug reports."""
    try:
        with redirect_stderr(os.devnull):  # where there is no compiler, the shell says so, too
            return collect_env_info()
    except Exception as error:  # facts that help are no reason to stop
        return f"PyTorch {torch.__version__}; more can't be found out ({shorten_error(error)})"


def _join_processes(cfg: CfgNode) -> None:
    claim_gpu(cfg.MODEL.DEVICE)
    timeout = timedelta(seconds=cfg.SOLVER.PROCESS_TIMEOUT)
    dist.init_process_group("nccl" if is_gpu(cfg.MODEL.DEVICE) else "gloo", timeout=timeout)
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))


def set_up_logging(output_dir: str) -> None:
    """Logs of the main process go to the terminal and OUTPUT_DIR/log.txt, those of others to log.txt.rank1, …"""
    open_logs(output_dir, comm.get_rank())
    # What the user can mend is reported in a sentence when it arrives at the top, without Detectron2's traceback.
    logging.getLogger("detectron2.engine.train_loop").addFilter(_is_unexpected)
    threading.excepthook = _report_in_thread


def _is_unexpected(record: logging.LogRecord) -> bool:
    return not (record.exc_info and is_known_failure(record.exc_info[1]))


def _report_in_thread(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread writes events; what keeps it from that is raised where training goes on, too."""
    if not is_known_failure(failure.exc_value):
        threading.__excepthook__(failure)


def _describe_resuming(cfg: CfgNode | None, args: Namespace) -> str:
    if cfg is None or args.eval_only:
        return ""
    checkpoints = Checkpointer(nn.Module(), cfg.OUTPUT_DIR)
    if not checkpoints.has_checkpoint():
        return f" before the first checkpoint in {cfg.OUTPUT_DIR}"
    return f": the same command with --resume goes on from {checkpoints.get_checkpoint_file()}"


def load_config(args: Namespace) -> CfgNode:
    """Reads the configuration that the arguments ask for; MODEL.DEVICE is made one that this machine has.

    Raises:
        InputError: see :func:`~.configuration.read_config`; or processes and devices don't go together.
    """
    cfg = read_config(args.config_file, args.opts)
    cfg.MODEL.DEVICE = choose_device(cfg.MODEL.DEVICE, args)
    check_process_timeout(cfg)
    cfg.freeze()
    return cfg


def choose_device(device: str, args: Namespace) -> str:
    """Chooses the device of every process that `args` ask for.

    Raises:
        InputError: they can't each have one.
    """
    if is_started_by_torchrun():
        if args.num_processes is not None:
            raise InputError("--num-processes starts processes, as torchrun has done: leave it out")
    else:
        gpus = count_gpus()
        _check_processes("cuda" if device == "auto" and gpus else device, args, gpus)
        if args.num_gpus == 0 or args.num_processes:
            device = "cpu"
    return find_available_device(device)


def _check_processes(device: str, args: Namespace, gpus: int) -> None:
    if not 0 <= args.machine_rank < args.num_machines:
        raise InputError(f"--machine-rank is {args.machine_rank}; it must be below --num-machines {args.num_machines}")
    if args.num_processes is not None:
        if args.num_processes < 1:
            raise InputError(f"--num-processes is {args.num_processes}; it must be at least 1")
        if args.num_gpus not in (0, 1):
            raise InputError("--num-processes is for the CPU, and --num-gpus for GPUs: drop one")
        return
    several = args.num_gpus > 1 or args.num_machines > 1
    if args.num_gpus < 0 or (args.num_gpus > gpus and several):
        raise InputError(
            f"--num-gpus is {args.num_gpus}, but this machine has {gpus} GPUs: lower it, or for several processes on "
            "the CPU use --num-processes instead"
        )
    if several and device != "cuda":
        raise InputError(f"MODEL.DEVICE is {device}, but --num-gpus and --num-machines ask for several GPUs: drop one")
