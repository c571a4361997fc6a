"""Every typed error survives the wire: class, code, message and what programs read from it."""

import grpc
import pytest
from google.rpc import error_details_pb2

from langptune import errors

ERRORS = [
    errors.InvalidArgument("k", "must be 1 to 100, not 0"),
    errors.NotFound("item", "B018"),
    errors.AlreadyExists("job j1 has another spec", reason="SPEC_DIFFERS"),
    errors.Aborted("the profile has changed", etag="7"),
    errors.FailedPrecondition("the catalogue is empty", reason="CATALOGUE_EMPTY"),
    errors.ResourceExhausted("the queue is full", retry_after=1.5),
    errors.Unavailable("the encoder cannot be reached"),
    errors.DeadlineExceeded("no answer within 3 s"),
    errors.Cancelled("called off"),
    errors.Internal("a defect"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_wire(error: errors.LangPTuneError) -> None:
    back = errors.from_status(errors.to_status(error))
    assert type(back) is type(error)
    assert back.message == error.message
    assert back.metadata == error.metadata


def test_the_details_are_googles_own() -> None:
    violation = error_details_pb2.BadRequest()
    assert errors.to_status(ERRORS[0]).details[1].Unpack(violation)
    assert violation.field_violations[0].field == "k"
    retry = error_details_pb2.RetryInfo()
    assert errors.to_status(ERRORS[5]).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_a_foreign_status_keeps_its_code() -> None:
    from google.rpc import status_pb2

    back = errors.from_status(status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="gone"))
    assert isinstance(back, errors.Unavailable)
