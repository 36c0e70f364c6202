import subprocess
import sys

from tests import ROOT


def said_by(code: str) -> str:
    """What ``code`` prints in a new process, in which `tf` and `tff` are fedpipe's."""
    code = f"import sys\nfrom fedpipe.lazy import tf, tff\n{code}"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_tensorflow_leaves_out_jax_and_keras_until_they_are_used() -> None:
    output = said_by(
        "tf.constant(1)\n"
        "print({'jax', 'keras'} & {*sys.modules})\n"
        "print(tf.keras.layers.Dense(3)(tf.ones([2, 5])).shape)\n"
        "import jax\n"
        "print(jax.numpy.arange(3).sum())\n"
    )
    assert output.splitlines() == ["set()", "(2, 3)", "3"]


def test_tff_leaves_out_tensorflow_probability_until_it_is_used() -> None:
    """TensorFlow Privacy, which TFF imports, holds the stand-in."""
    output = said_by(
        "print(tff.SERVER)\n"
        "print('tensorflow_probability' in sys.modules)\n"
        "from tensorflow_privacy.privacy.dp_query import discrete_gaussian_utils\n"
        "print(discrete_gaussian_utils.sample_discrete_gaussian(scale=3, shape=[4]).shape)\n"
        "import tensorflow_probability\n"
        "print(tensorflow_probability.distributions.Normal(0.0, 1.0).mean().numpy())\n"
    )
    assert output.splitlines() == ["SERVER", "False", "(4,)", "0.0"]


def test_whoever_imported_tensorflow_first_keeps_what_it_has() -> None:
    output = said_by("import tensorflow\nprint(tf.constant is tensorflow.constant, 'keras' in sys.modules)")
    assert output.split() == ["True", "True"]
