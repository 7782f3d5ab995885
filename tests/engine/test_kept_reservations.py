"""What is reserved for a container outlives what fails of it, and is held through its return."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cellwall.adapters.sandbox import owners
from cellwall.errors import KernelError, NotFound
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings
from engine.steps import Fault, stepped
from engine.test_reservations import bindable
from world import World, open_world

pytestmark = pytest.mark.root
FEW = Settings(reserved_ports=(61000, 61009))

Come = Callable[..., Endpoint]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(settings=FEW) as world:
        yield world


@pytest.fixture(autouse=True)
def given_back(world: World) -> Iterator[None]:
    yield
    world.wall.detach_many([one.key for one in world.wall.endpoints()])
    world.wall.empty_pool(100)
    for one in world.wall.reservations():
        world.wall.release_ports(one.container)


COMES: dict[str, Come] = {
    "attach": lambda wall, *bindings: wall.attach("web", tenant="acme", expose=bindings),
    "claim": lambda wall, *bindings: wall.claim("web", tenant="acme", expose=bindings),
}


@pytest.mark.parametrize("way", COMES)
@pytest.mark.parametrize("any_port", [False, True])
def test_what_fails_leaves_a_container_what_was_reserved_for_it(world: World, way: str, any_port: bool) -> None:
    wall, failed = world.wall, 0
    for step in range(1, 200):
        wall.fill_pool(1)
        (port,) = wall.reserve_ports("web", tenant="acme").ports
        fault = Fault(step)
        with suppress(KernelError):
            COMES[way](stepped(wall, fault), "auto:80" if any_port else f"{port}:80")
        if wall.endpoints() == ():
            failed += 1
            assert [one.ports for one in wall.reservations()] == [(port,)] and not bindable(port), f"step {step}"
        if not fault.happened:
            break
        wall.detach("web")
    assert failed > 3 and wall.endpoints()


def lose_sandbox(world: World, endpoint: Endpoint) -> None:
    world.lab.node.run(["ip", "link", "delete", endpoint.host_link])


def lose_process(world: World, endpoint: Endpoint) -> None:
    """That attached it for its own lifetime."""
    owners.claim(Path(world.wall.paths.run), endpoint.key.container_id).release()


@pytest.mark.parametrize("lose", [lose_sandbox, lose_process])
@pytest.mark.parametrize("way", COMES)
def test_who_comes_again_in_the_place_of_a_dead_one_has_its_ports_as_before(
    world: World, way: str, lose: Callable[[World, Endpoint], None]
) -> None:
    """Any free one, and one that is named, however long ago it was reserved."""
    wall = world.wall
    (named,) = wall.reserve_ports("web", tenant="acme").ports
    before = COMES[way](wall, "auto:80", f"{named}:81")
    wall.reserve_ports("web", 2, tenant="acme", seconds=1e-6)
    lose(world, before)
    again = COMES[way](wall, "auto:80", f"{named}:81")
    assert again.generation != before.generation and again.bindings == before.bindings
    ports = {binding.host_port for binding in again.bindings}
    assert {*wall.reservations()[0].ports} == ports and not any(map(bindable, ports))
    lose(world, again)
    wall.attach("web", tenant="other", expose=["auto:80"])
    assert [(one.tenant, len(one.ports)) for one in wall.reservations()] == [("other", 1)], "they were not that one's"


def test_a_dead_one_whose_own_port_is_led_elsewhere_is_not_attached_any_more(world: World) -> None:
    """It is detached as it is found in the way, and was on record again with both ports."""
    web = world.wall.attach("web", expose=["8000:80"])
    lose_sandbox(world, web)
    with pytest.raises(NotFound, match="web/eth0: is not attached"):
        world.wall.expose("web", "8000:81")
    assert world.wall.endpoints() == () and world.wall.status().drift == ()
