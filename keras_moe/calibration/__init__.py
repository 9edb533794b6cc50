"""Thresholds with a guarantee: Learn then Test, for exits and cascades."""

from keras_moe.calibration._calibrate import calibrate as calibrate
from keras_moe.calibration._cascade import (
    calibrate_cascade as calibrate_cascade,
)
from keras_moe.calibration._certificate import Certificate as Certificate
from keras_moe.calibration._check_disjoint import (
    check_disjoint as check_disjoint,
)
from keras_moe.calibration._consistency import (
    risk_consistency as risk_consistency,
)
from keras_moe.calibration._consistency import (
    textual_consistency as textual_consistency,
)
from keras_moe.calibration._corrections import bonferroni as bonferroni
from keras_moe.calibration._corrections import fixed_sequence as fixed_sequence
from keras_moe.calibration._corrections import holm as holm
from keras_moe.calibration._deferral_report import (
    DeferralReport as DeferralReport,
)
from keras_moe.calibration._deferral_rule import DeferralRule as DeferralRule
from keras_moe.calibration._distances import (
    edit_distance_error as edit_distance_error,
)
from keras_moe.calibration._distances import (
    rouge_l_distance as rouge_l_distance,
)
from keras_moe.calibration._distances import (
    token_f1_distance as token_f1_distance,
)
from keras_moe.calibration._evaluate_deferral import (
    evaluate_deferral as evaluate_deferral,
)
from keras_moe.calibration._exits import ExitAnswers as ExitAnswers
from keras_moe.calibration._exits import calibrate_exits as calibrate_exits
from keras_moe.calibration._exits import exit_answers as exit_answers
from keras_moe.calibration._exits import exit_policy as exit_policy
from keras_moe.calibration._not_certified_error import (
    NotCertifiedError as NotCertifiedError,
)
from keras_moe.calibration._p_values import betting_p_value as betting_p_value
from keras_moe.calibration._p_values import binary_p_value as binary_p_value
from keras_moe.calibration._p_values import (
    hoeffding_bentkus_p_value as hoeffding_bentkus_p_value,
)
from keras_moe.calibration._p_values import (
    hoeffding_p_value as hoeffding_p_value,
)
from keras_moe.calibration._validity import ViolationRate as ViolationRate
from keras_moe.calibration._validity import violation_rate as violation_rate
from keras_moe.moved_names import find_moved

__getattr__ = find_moved(__name__)
