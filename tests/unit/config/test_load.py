"""Settings come from four places in a fixed order, and every refusal names key and value."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cellwall.config import Paths, Serving, load_settings, paths_for
from cellwall.config.keys import BY_NAME, KEYS, SECTIONS, SERVING_KEYS, shown
from cellwall.errors import InvalidSpec, NoPrivilege
from cellwall.model.settings import Settings

Write = Callable[[str], Paths]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    paths = paths_for(tmp_path)

    def written(text: str) -> Paths:
        paths.config_file.parent.mkdir(parents=True, exist_ok=True)
        paths.config_file.write_text(text)
        return paths

    return written


def test_without_any_source_the_defaults_are_the_reference_models(tmp_path: Path) -> None:
    loaded = load_settings(paths_for(tmp_path), environ={})
    assert loaded.settings == Settings()
    assert str(loaded.settings.network.subnet4) == "192.168.0.0/20"
    assert set(loaded.origins.values()) == {"default"}


def test_flag_beats_environment_beats_file_beats_default(write: Write) -> None:
    paths = write('[network]\nbridge = "file0"\nmtu = 1400\nveth_prefix = "fff"\n')
    loaded = load_settings(
        paths,
        environ={"CELLWALL_NETWORK_BRIDGE": "env0", "CELLWALL_NETWORK_MTU": "1401"},
        overrides={"network.bridge": "flag0"},
    )
    network = loaded.settings.network
    assert (network.bridge, network.mtu) == ("flag0", 1401)
    assert (network.veth_prefix, network.name) == ("fff", "cellwall")
    origin = [loaded.origins[f"network.{key}"] for key in ("bridge", "mtu", "veth_prefix", "name")]
    assert origin == ["flag", "environment", "file", "default"]


def test_every_key_is_read_alike_from_file_environment_and_flag(write: Write) -> None:
    text = {
        "network.name": "blue", "network.bridge": "br9", "network.bridge_mac": "02:00:00:00:00:09",
        "network.veth_prefix": "x9h", "network.subnet4": "10.9.0.0/20", "network.gateway4": "10.9.0.9",
        "network.subnet6": "fd00:9::/64", "network.gateway6": "fd00:9::9", "network.mtu": "1300",
        "limits.bytes": "123456", "limits.tenant_bytes": "1234567",
        "network.ipv6": "off", "network.dns": "9.9.9.9,2620:fe::fe",
        "network.exceptions": "resolver 10.0.0.2 udp,tcp/53; gw 10.0.0.3 tcp/443", "node.interface": "eth9",
        "node.public_addresses": "93.184.216.9", "node.protect": "8.0.0.0/8,2a09::/16",
        "node.nat_ports": "20000-29999", "node.reserved_ports": "30000-31000",
        "node.kept_ports": "8443-8443,31000-32767", "node.mark": "0x10",
        "node.services": "time 10.9.0.9 udp/123",
        "node.backend": "iptables", "node.iptables": "legacy", "node.mode": "daemon", "daemon.group": "builders",
        "daemon.allow": "builders attach,detach ci-*,nightly; 1000 list web", "limits.connections": "9",
        "limits.smtp": "watched", "limits.new_connections": "7", "limits.watched": "connections,packets",
        "limits.packets": "70", "daemon.metrics_tenants": "7",
        "daemon.metrics": "open 10.0.0.5:9469", "limits.tenant_connections": "99",
        "limits.tenant_new_connections": "8", "limits.tenant_packets": "80", "audit.log": "off", "audit.group": "9",
        "audit.rate": "5", "audit.burst": "50", "audit.files": "3", "audit.file_size": "2",
        "audit.journal": "on", "daemon.busy_poll": "50", "pool.size": "6", "pool.burst": "60",
    }  # fmt: skip
    assert set(text) == set(BY_NAME)
    empty = paths_for("/nonexistent")
    loaded = load_settings(empty, environ={}, overrides=text)
    by_flag = loaded.settings
    by_variable = load_settings(empty, environ={BY_NAME[name].variable: text[name] for name in text})
    assert (by_flag, loaded.serving) == (by_variable.settings, by_variable.serving)
    assert [opening.protocol for opening in by_flag.exceptions] == ["udp", "tcp", "tcp"]
    unusual = [key.name for key in SERVING_KEYS if shown(key, loaded.serving) == shown(key, Serving())]
    assert unusual == [], "these are not tried with another value"
    lines = []
    for section in SECTIONS:
        lines.append(f"[{section}]")
        keys = [key for key in KEYS if key.name.startswith(section)]
        lines += [f"{key.attribute} = {shown(key, by_flag)!r}" for key in keys]
        rest = [key for key in SERVING_KEYS if key.name.startswith(section)]
        lines += [f"{key.attribute} = {shown(key, loaded.serving)!r}" for key in rest]
    by_file = load_settings(write("\n".join(lines)), environ={})
    assert (by_file.settings, by_file.serving) == (by_flag, loaded.serving)


@pytest.mark.parametrize(("subnet", "gateway"), [("network.subnet4", "10.7.0.1"), ("network.subnet6", "fd07::1")])
def test_gateway_follows_its_subnet_unless_chosen(subnet: str, gateway: str) -> None:
    chosen = "10.7.0.0/20" if subnet.endswith("4") else "fd07::/64"
    loaded = load_settings(paths_for("/nonexistent"), environ={}, overrides={subnet: chosen})
    assert gateway in (str(loaded.settings.network.gateway4), str(loaded.settings.network.gateway6))


BAD_VALUES = [
    ("network.name", "a b"), ("network.bridge", "br/0"), ("network.bridge", "a-name-much-too-long"),
    ("network.bridge", 'b";0'), ("network.bridge", "lo"), ("network.bridge", "default"), ("node.interface", "lo"),
    ("node.interface", "b9_br0"), ("node.interface", "all"), ("node.reserved_ports", "20000-20010"),
    ("node.kept_ports", "9-8"), ("node.kept_ports", "http"), ("node.kept_ports", "1-65536"),
    ("network.exceptions", "x 255.255.255.255 udp/67"), ("network.exceptions", "mdns 224.0.0.251 udp/5353"),
    ("network.exceptions", "mdns ff02::fb udp/5353"), ("network.exceptions", "other 192.168.0.9 tcp/80"),
    ("node.services", "any 0.0.0.0 tcp/80"), ("node.services", "any :: tcp/80"),
    ("node.services", "own 127.0.0.1 tcp/80"), ("node.services", "own ::1 tcp/80"),
    ("node.services", "other fd00:abcd::9 tcp/80"),
    ("network.bridge", "b9hx"), ("network.bridge_mac", "01:00:5e:00:00:01"),
    ("network.bridge_mac", "00:00:00:00:00:00"), ("network.bridge_mac", "02:00"),
    ("network.veth_prefix", "toolong"), ("network.subnet4", "192.168.0.1/20"),
    ("network.subnet4", "10.0.0.0/8"), ("network.subnet4", "10.0.0.0/30"), ("network.subnet4", "fd00::/64"),
    ("network.subnet4", "everything"), ("network.gateway4", "192.168.16.1"),
    ("network.gateway4", "192.168.0.0"), ("network.gateway4", "::1"), ("network.subnet6", "10.0.0.0/20"),
    ("network.subnet6", "fd00:abcd::/120"), ("network.gateway6", "fd00:abce::1"), ("network.mtu", "68"),
    ("network.mtu", "-1"), ("network.mtu", "big"), ("network.ipv6", "yes"), ("network.dns", "one.one"),
    ("network.dns", "10.0.0.2"), ("network.dns", "169.254.169.253"),
    ("network.exceptions", "resolver 10.0.0.0/8 udp/53"),
    ("network.exceptions", "meta 169.254.169.254 tcp/80"),
    ("network.exceptions", "resolver 10.0.0.2 udp/53-60"),
    ("network.exceptions", "resolver 10.0.0.2 sctp/53"), ("network.exceptions", "10.0.0.2 udp/53"),
    ("node.interface", "eth0;reboot"), ("node.public_addresses", "93.184.216.0/24"),
    ("node.protect", "10.0.0.1/8"), ("node.nat_ports", "10240"), ("node.nat_ports", "29999-10240"),
    ("node.nat_ports", "80-9000"), ("node.nat_ports", "20000-20100"), ("node.mark", "3"),
    ("node.mark", "0"), ("node.services", "x"), ("limits.connections", "0"), ("limits.smtp", "yes"),
    ("limits.packets", "-1"), ("limits.packets", "1000001"),
    ("limits.tenant_connections", "1048577"), ("limits.tenant_new_connections", "-1"),
    ("limits.tenant_packets", "1000001"), ("limits.bytes", "-1"), ("limits.tenant_bytes", "10000000001"),
    ("limits.new_connections", "-1"), ("limits.new_connections", "100001"), ("limits.watched", "smtp"),
    ("node.backend", "ebtables"),
    ("daemon.metrics", "10.0.0.5:9469"), ("daemon.metrics", "0.0.0.0:9469"), ("daemon.metrics", "9469"),
    ("daemon.metrics", "127.0.0.1"), ("daemon.metrics", "::1:9469"), ("daemon.metrics", "127.0.0.1:0"),
    ("daemon.metrics", "open"), ("daemon.metrics", "localhost:9469"), ("daemon.metrics_tenants", "1001"),
    ("daemon.busy_poll", "10001"), ("daemon.busy_poll", "-1"),
    ("node.iptables", "nftables"), ("audit.log", "yes"), ("audit.group", "0"),
    ("audit.group", "65536"), ("audit.rate", "0"), ("audit.rate", "10001"), ("audit.burst", "0"),
]  # fmt: skip


@pytest.mark.parametrize("key", ["node.services", "network.exceptions"])
@pytest.mark.parametrize(
    "item", ["dns 10.0.0.2 udp", "dns 10.0.0.2 udp/0", "dns 10.0.0.2 /", "dns ten udp/53", "- ::9 tcp/1"]
)
def test_an_opening_is_refused_as_it_was_written(key: str, item: str) -> None:
    """One of several is to be found again, and an empty port is nothing to look for."""
    with pytest.raises(InvalidSpec) as caught:
        load_settings(paths_for("/nonexistent"), environ={}, overrides={key: f"resolver 10.0.0.3 udp,tcp/53;{item}"})
    assert (caught.value.field, caught.value.value) == (key, item)


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_bad_value_is_refused_with_its_key_and_value(name: str, value: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        load_settings(paths_for("/nonexistent"), environ={}, overrides={name: value})
    assert caught.value.field == name
    assert "\n" not in str(caught.value)
    shown_value = str(caught.value.value)
    number = value.isdigit() and hex(int(value)) == shown_value
    assert number or shown_value in value or value in shown_value


@pytest.mark.parametrize(
    ("text", "field", "suggestion"),
    [
        ('[network]\nsubent4 = "10.0.0.0/20"', "network.subent4", "network.subnet4"),
        ("[netwrk]\nmtu = 1", "netwrk", "network"),
        ('bridge = "br0"', "bridge", ""),
        ('[network]\nmtu = "1400"', "network.mtu", ""),
        ("[network]\nmtu = true", "network.mtu", ""),
        ("[network]\nbridge = 7", "network.bridge", ""),
        ('[network]\ndns = "1.1.1.1"', "network.dns", ""),
        ("[network]\ndns = [1]", "network.dns", ""),
        ("network = 3", "network", ""),
        ("[network", "configuration", ""),
    ],
)
def test_file_with_a_wrong_key_or_type_is_refused(write: Write, text: str, field: str, suggestion: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        load_settings(write(text), environ={})
    assert caught.value.field == field
    assert (f"did you mean {suggestion}?" in str(caught.value)) == bool(suggestion)


def test_misspelt_variable_is_refused_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    paths = paths_for(tmp_path)
    load_settings(paths, environ={"CELLWALL_ROOT": "/x", "CELLWALL_COLOUR": "red", "NETWORK_MTU": "-1"})
    with pytest.raises(InvalidSpec, match=r"CELLWALL_NETWORK_MUT: .*did you mean CELLWALL_NETWORK_MTU\?"):
        load_settings(paths, environ={"CELLWALL_NETWORK_MUT": "1400"})
    with pytest.raises(InvalidSpec, match=r"network\.mut: .*did you mean network\.mtu\?"):
        load_settings(paths, environ={}, overrides={"network.mut": "1400"})


def test_refusal_says_where_the_value_stands(write: Write) -> None:
    paths = write("[network]\nmtu = 12\n")
    with pytest.raises(InvalidSpec, match=rf"network\.mtu: 12: .*\(in {paths.config_file}\)"):
        load_settings(paths, environ={})
    with pytest.raises(InvalidSpec, match=r"network\.mtu: 13: .*\(in CELLWALL_NETWORK_MTU\)"):
        load_settings(paths, environ={"CELLWALL_NETWORK_MTU": "13"})
    with pytest.raises(InvalidSpec, match=r"network\.mtu: 14: .*\(in --set\)"):
        load_settings(paths, environ={}, overrides={"network.mtu": "14"})


@pytest.mark.parametrize("others", [
    {"network.exceptions": "resolver 10.0.0.2 udp/53"},  # an answer too long for a datagram would have no way
    {"network.exceptions": "resolver 10.0.0.2 tcp,udp/853"}, {"network.exceptions": "resolver 10.0.0.3 udp,tcp/53"},
])  # fmt: skip
def test_a_private_resolver_is_refused_while_either_transport_is_closed(others: dict[str, str]) -> None:
    with pytest.raises(InvalidSpec, match=r"network\.dns: 10\.0\.0\.2"):
        load_settings(paths_for("/nowhere"), environ={}, overrides={"network.dns": "10.0.0.2", **others})


@pytest.mark.parametrize("key", ["node.public_addresses", "node.protect"])
def test_what_the_operator_closes_is_no_resolver(key: str) -> None:
    with pytest.raises(InvalidSpec, match=r"network\.dns: 9\.9\.9\.9"):
        load_settings(paths_for("/nowhere"), environ={}, overrides={"network.dns": "9.9.9.9", key: "9.9.9.9"})


def test_private_resolver_is_accepted_once_its_exception_is_named() -> None:
    wanted = {"network.dns": "10.0.0.2", "network.exceptions": "resolver 10.0.0.2 udp,tcp/53"}
    loaded = load_settings(paths_for("/nonexistent"), environ={}, overrides=wanted)
    assert [str(address) for address in loaded.settings.dns] == ["10.0.0.2"]


def test_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    paths = paths_for(tmp_path)
    paths.config_file.mkdir(parents=True)
    with pytest.raises(InvalidSpec, match="cannot be read"):
        load_settings(paths, environ={})


def test_unreadable_file_is_a_matter_of_privilege(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)  # root reads everything, so no file mode shows this
    with pytest.raises(NoPrivilege, match=r"cellwall\.toml"):
        load_settings(paths_for(tmp_path), environ={})


def test_root_flag_beats_its_variable_and_both_move_all_paths() -> None:
    assert paths_for("/a", {"CELLWALL_ROOT": "/b"}).run == Path("/a/run/cellwall")
    assert paths_for(None, {"CELLWALL_ROOT": "/b"}).run == Path("/b/run/cellwall")
    assert paths_for(None, {}).config_file == Path("/etc/cellwall/cellwall.toml")
    assert paths_for("rel", {}).run == Path.cwd() / "rel/run/cellwall"
    assert paths_for(Path("/a"), {}).in_run("x") == "/a/run/cellwall/x"


def test_documentation_has_every_key_with_its_default_and_meaning() -> None:
    page = (Path(__file__).parents[3] / "docs/configuration.md").read_text()
    for key in (*KEYS, *SERVING_KEYS):
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{key.name}` |")]
        value = shown(key, Settings() if key in KEYS else Serving())
        assert key.about in row
        assert str(value if not isinstance(value, list) else "–") in row
