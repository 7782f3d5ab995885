"""Who calls: each operation is one turn under the writer lock of the node, and goes by certain settings.

Those that an `up` put into force, whatever the caller has configured: enforcing one's own over them would bring a
policy back that somebody took away, without a word to anybody. Of a node that is not up, the caller's. What closes goes
on without either. Owns: which settings the site carries from turn to turn. Decides nothing about packets.
"""

import errno
from _thread import RLock  # what threading.RLock is; the module around it costs a CNI call 1 ms
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from cellwall.engine.attachments.drain import retire_closed
from cellwall.engine.readiness import (
    leave_bare,
    make_closable,
    make_ready,
    over_lost_tables,
    over_other_sets,
    ready_at_once,
    take_backend,
)
from cellwall.engine.site import Foundation, Site
from cellwall.errors import CellwallError, Conflict, Dismissed, InvalidSpec, KernelError, Unsupported
from cellwall.model.endpoint import PortBinding
from cellwall.model.settings import Settings

if TYPE_CHECKING:
    from cellwall.engine.figures import Ledger
    from cellwall.engine.ports.led import Proxies

T = TypeVar("T")


class Configured(msgspec.Struct, frozen=True):
    """What a caller would bring into force: `read` says what that is by now. `given`: the text of settings that were
    handed over as they are; None where they are read.

    `spelled` gives the text of settings that goes on record, `understood` the settings of such a text, None where
    another version of the program wrote what this one cannot read.
    """

    read: Callable[[], Settings]
    given: str | None
    spelled: Callable[[Settings], str]
    understood: Callable[[str], Settings | None]

    def now(self) -> Settings:
        """The settings configured now; InvalidSpec where they cannot work."""
        settings = self.read()
        settings.validate()
        return settings


class Turns(Protocol):
    """A mutex, reentrant, of threads that come again and again."""

    def __enter__(self) -> bool: ...
    def __exit__(self, kind: Any, value: Any, trace: Any, /) -> None: ...
    def enter_if_free(self) -> bool: ...


class Caller:
    """One caller of one node, for as long as it holds its adapters; its threads take turns as processes do.

    `place`: the directory of the node's record.
    """

    def __init__(self, site: Site, configured: Configured, place: str) -> None:
        self.site = site
        self.configured = configured
        self._place = place
        self.mutex: AbstractContextManager[object] = RLock()
        self._enter_if_free: Callable[[], bool] = lambda: False
        self._left_links = False
        self._came_to_proxy = False

    def take_turns_by(self, turns: Turns) -> None:
        """Have this keep threads apart from now on."""
        self.mutex, self._enter_if_free = turns, turns.enter_if_free

    @contextmanager
    def turn(self, patience: float | None = None, container: str | None = None) -> Iterator[None]:
        """The writer lock, for one operation; `patience`: wait for no longer than so many seconds. `container`: it
        changes nothing on record but what is this one's. One that is refused leaves a node bare that it found bare.
        Dismissed where the node's record was removed meanwhile."""
        with self.mutex, self.site.lock if patience is None else self.site.lock.within(patience):
            if not self.site.journal.in_place():
                raise Dismissed(f"{self._place}: cellwall was uninstalled meanwhile; open the wall again")
            self.site.journal.keep_spare_room()
            bare = False
            try:
                self.site.journal.look()
                bare = self.site.journal.get("foundation") is None
                yield
            except BaseException:
                if bare:
                    leave_bare(self.site)
                raise
            finally:
                self.site.journal.end_look()
                if self.site.proxies is not None:
                    came, self._came_to_proxy = self._came_to_proxy, False
                    self.site.proxies.follow(self.site, came, container)

    def run_proxies(self, proxies: "Proxies") -> None:
        """Have these told at the end of every turn, and of all there is at the end of this one."""
        self.site, self._came_to_proxy = msgspec.structs.replace(self.site, proxies=proxies), True

    def begin(self, *, closing: bool) -> None:
        """The settings to begin with: those in force, or of a node that is not up what is configured. `closing`: these
        may be wrong."""
        found = self.site.foundation()
        if found is not None and self.take_those_in_force(found):
            return
        try:
            self.take_configured()
        except InvalidSpec:
            if not closing:
                raise

    def take_configured(self, instead: Settings | None = None) -> None:
        """Go by what is configured now, as an `up` does, or by other settings `instead`."""
        if instead is None:
            self._adopt(self.configured.now())
        else:
            instead.validate()
            self._adopt(instead)

    def take_those_in_force(self, found: Foundation | None) -> bool:
        """Go by those in force. False where another program's record of them cannot be read: the site keeps what it
        has, as closing needs hardly any."""
        if found is not None and found.settings != self.site.settings_text:
            settings = self.configured.understood(found.settings)
            if settings is None:
                return False
            self._adopt(settings)
        return True

    def take_as_laid(self) -> Foundation | None:
        """Go by the foundation on record, whether or not it still holds: by the settings in force and with what holds
        the wall. None on a node that is not up. For who looks, or repairs, and lays nothing unasked."""
        found = self.site.foundation()
        self.take_those_in_force(found)
        take_backend(self.site, found)
        return found

    def take_those_to_open_by(self) -> Settings:
        """Go by those in force; of a node that is not up, or whose record cannot be read, by what is configured.
        Conflict where settings were given that are not those in force."""
        found = self.site.foundation()
        if found is not None and self.configured.given not in (None, found.settings):
            raise Conflict("settings: are not those in force on the node; `up` would put them into force")
        if found is None or not self.take_those_in_force(found):
            self.take_configured()
        return self.site.settings

    def be_ready(self) -> Foundation:
        """The foundation that holds, under the settings to open by."""
        self.take_those_to_open_by()
        return self._made_ready(())

    def at_once(self, container: str, act: Callable[[Site], T | None]) -> T | None:
        """What `act` gives in a `turn` about one container, where nobody has the turn or waits for it and nothing is to
        be done first on a foundation that holds; None, and nobody has waited, where that is not so. For the only writer
        of a node."""
        if not self._enter_if_free():
            return None
        try:
            with self.turn(container=container):
                self.take_those_to_open_by()
                return None if ready_at_once(self.site) is None else act(self.site)
        finally:
            self.mutex.__exit__(None, None, None)

    def open(self, bindings: Sequence[PortBinding], act: Callable[[Site, Foundation], T]) -> T:
        """What `act` gives on a node that is ready for these bindings, under the settings that were taken. Unsupported
        for one that asks for a proxy where nobody runs any."""
        for binding in bindings:
            if binding.proxy:
                if self.site.proxies is None:
                    raise Unsupported(f"expose.proxy: {binding}: a proxy is the daemon's to run, and none writes here")
                from cellwall.engine.ports.led import (
                    refuse_unbounded,  # here and not above: hardly any port has a proxy
                )

                refuse_unbounded(self.site, binding)
                self._came_to_proxy = True
        found = self._made_ready(bindings)
        return over_lost_tables(self.site, found, lambda found: act(self.site, found))

    def close(self, act: Callable[[Site], T], *, leaves_links: bool) -> T:
        """What `act` gives, which only closes: neither a wrong configuration, nor another program's record, nor a full
        disk keeps it. `act` may be done twice."""
        in_force = self._take_those_to_close_by()
        self._left_links |= leaves_links
        ready = False
        try:
            make_closable(self.site, in_force=in_force)
            ready = True
            return over_other_sets(self.site, lambda: act(self.site), in_force=in_force)
        except KernelError as error:
            if error.errno != errno.ENOSPC or not self.site.journal.spend_spare_room():
                raise
        if not ready:  # else what `act` had begun is its own to finish, and to tell of
            make_closable(self.site, in_force=in_force)
        return over_other_sets(self.site, lambda: act(self.site), in_force=in_force)

    def leave(self) -> None:
        """Delete the links that this caller's detaches left behind: a sandbox that stays is without its interface then,
        and another program may want the name. Whatever keeps it from being done, the next operation of anybody does it.
        """
        if not self._left_links:
            return
        self._left_links = False
        with suppress(CellwallError, OSError), self.turn():
            retire_closed(self.site)
            self.site.links.reap()

    def keep_figures(self, ledger: "Ledger") -> None:
        """Have this told of endpoints that are closed from now on."""
        self.site = msgspec.structs.replace(self.site, ledger=ledger)

    def _made_ready(self, bindings: Sequence[PortBinding]) -> Foundation:
        found = make_ready(self.site, bindings)
        self._left_links = False  # that was the next operation
        return found

    def _take_those_to_close_by(self) -> bool:
        """Those in force; where they cannot be read what is configured, as an attach would. False where that is wrong,
        or not the caller's to say: closing goes on without."""
        if self.take_those_in_force(self.site.foundation()):
            return True
        try:
            self.take_those_to_open_by()
        except CellwallError:
            return False
        return True

    def _adopt(self, settings: Settings) -> None:
        text = self.configured.spelled(settings)
        self.site = msgspec.structs.replace(self.site, settings=settings, settings_text=text)
