"""Loading MuJoCo models as Gymnasium does, without the noise."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import mujoco

from skillrl.errors import InvalidValueError

# What MuJoCo says of a file that Gymnasium ships, half_cheetah.xml: users cannot mend it.
_NOISE = "compiler attribute 'settotalmass' is deprecated"


def load_model(xml_file: str, width: int, height: int) -> mujoco.MjModel:
    """Compile a model; equal in every field to what Gymnasium's environments load.

    Args:
        xml_file: a path that starts with ``/``, ``.`` or ``~``, or the name of one of the files
            that Gymnasium ships (``"ant.xml"``).
        width: the least width of the offscreen framebuffer, in pixels.
        height: the least height of the offscreen framebuffer, in pixels.

    Raises:
        InvalidValueError: if there is no such file, or MuJoCo cannot read it.
    """
    path = model_path(xml_file)
    if not path.is_file():
        raise InvalidValueError(
            f"xml_file={xml_file!r}: there is no file {path}. Give a path that starts with '/', "
            "'.' or '~', or the name of a model that Gymnasium ships, such as 'ant.xml'."
        )
    try:
        # Read through MjSpec, MuJoCo's warnings are Python warnings; MjModel.from_xml_path would
        # print them and leave a MUJOCO_LOG.TXT in the working directory.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_NOISE)
            model = mujoco.MjSpec.from_file(str(path)).compile()
    except ValueError as error:
        reason = " ".join(str(error).split())  # on one line
        raise InvalidValueError(
            f"xml_file={xml_file!r}: MuJoCo cannot read it. {reason}"
        ) from error
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    return model


def model_path(xml_file: str) -> Path:
    """Where Gymnasium looks for ``xml_file``."""
    if xml_file.startswith(("/", ".", "~")):
        return Path(xml_file).expanduser()
    return Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / xml_file


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep Gymnasium's own environments from printing one known warning while they load.

    Without it every single HalfCheetah prints the warning, and leaves a MUJOCO_LOG.TXT in the
    working directory. Other messages of MuJoCo become Python warnings.

    Example:
        >>> import gymnasium
        >>> with quiet_loading():
        ...     env = gymnasium.make("HalfCheetah-v5")
    """
    messages: list[str] = []
    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(messages.append)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)
    for message in messages:
        if not message.startswith(_NOISE):
            warnings.warn(message, stacklevel=3)
