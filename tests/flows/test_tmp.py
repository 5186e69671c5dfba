import pytest
from tests.corridor import *
from django_multipay.enums import *

@pytest.mark.django_db
def test_a(corridor):
    p = corridor.payment()
    m = corridor.pay(p)
    print(m)
    r = corridor.send(m.return_path, m.return_body)
    assert r.status_code == 303
    r = corridor.send(m.status_path, m.status_body)
    assert r.content == ACCEPTED
    p.refresh_from_db()
    assert p.status == "paid"
    print(everything())
    print(corridor.calls())
    print(corridor.signed(p, amount="1.00"))
