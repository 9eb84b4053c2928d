"""Ceph RGW behind a proxy that asks Brevet: the matrix of clients and the attacks of the other stores. RGW itself knows one
key, and nothing of Brevet."""

import pytest
from ceph import Ceph
from test_object_stores import prepared, sdk_for_rust, stores, the_matrix  # noqa: F401
from test_touched import compare


class RGW:
    """RGW 16.2 does not know checksums that come after a body."""

    name, host, takes_trailers, keeps_slashes = "radosgw", "localhost", False, True

    def __init__(self, folder):
        folder.mkdir()
        self.ceph = Ceph(folder)
        self.port, self.buckets = self.ceph.port, ["data-rgw", "other-rgw"]
        self.ceph.user("root", *stores.STORE_KEY)

    def direct(self):
        return stores.client(self.ceph.address, stores.STORE_KEY, request_checksum_calculation="when_required")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    programs = prepared(tmp_path_factory.mktemp("stores"))
    rgw = RGW(programs.home / "ceph")
    try:
        broker = stores.Broker(programs, programs.home, [rgw], stores.directory(), audit='data_events = "all"\n')
        for bucket in rgw.buckets:
            rgw.direct().create_bucket(Bucket=bucket)
        rgw.direct().put_object(Bucket=rgw.buckets[0], Key="elsewhere/x", Body=b"x")
        yield programs, broker, {rgw.name: rgw}
    finally:
        programs.stop()
        rgw.ceph.stop()


@pytest.mark.parametrize("proxy", stores.PROXIES)
def test_the_matrix(world, sdk_for_rust, capsys, proxy):  # noqa: F811
    programs, broker, all_stores = world
    endpoint = stores.PROXIES[proxy](programs, all_stores["radosgw"], broker)
    try:
        the_matrix((programs, broker, all_stores, {(proxy, "radosgw"): endpoint}), capsys, proxy, "radosgw")
    finally:
        programs.running.pop().terminate()


@pytest.mark.parametrize("proxy", stores.PROXIES)
def test_the_object_that_is_touched_is_the_one_that_was_judged(world, capsys, proxy):
    compare(world, capsys, proxy, "radosgw")
