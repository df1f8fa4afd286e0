"""Private ActiveMQ brokers (Classic): Debian's packages, ready in about a second.

    with activemq.Broker() as broker:
        link = links.Link(address.parsed(broker.url()), told)
        broker.kill()

A broker speaks STOMP, and has Jolokia (`/api/jolokia`) for what its queues hold and for messages that come over HTTP. All
methods block; call them in a thread where an event loop must go on. What is acknowledged is on the disk, as by default.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib import error as failures
from urllib import parse, request
from xml.sax import saxutils

import msgspec

from callboard.kit import ports
from callboard.rpc import certs
from callboard.testing.engines import ground, servers

PACKAGES = ("activemq", "libjolokia-core-java", "libjson-simple-java", "libjetty9-java", "libservlet-api-java", "libslf4j-java")
USER = "callboard"
PASSWORD = "open-sesame"
"""Of the user that URLs name, where a broker has users."""
NAME = "callboard-test"
"""What the broker calls itself."""
START_SECONDS = 30.0
_LIB = Path("/usr/share/activemq/lib")
_JARS = Path("/usr/share/java")
_OPTIONAL = (
    *("spring3-aop", "spring3-beans", "spring3-context", "spring3-core", "spring3-expression", "xbean-spring"),
    *("commons-pool2", "activemq-spring"),
)
_SYSTEM = (
    *("commons-logging", "jetty9-server", "jetty9-servlet", "jetty9-http", "jetty9-io", "jetty9-util", "jetty9-util-ajax"),
    *("jetty9-security", "servlet-api", "jolokia-core", "json-simple", "slf4j-jdk14"),
)
_JAVA = ("-Xms64m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
_STORE_PASSWORD = "of-a-key-store"


def installed() -> str | None:
    """Return None when brokers can be started here, else what is missing, in a line."""
    for program in ("java", "keytool"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    absent = [path for path in [_LIB / "activemq-broker.jar", *_named()] if not path.exists()]
    return f"{absent[0]} is missing" if absent else None


class Queue(msgspec.Struct, frozen=True):
    """What a broker says of one queue: messages there, of these in consumers' hands, consumers, and counts since its start."""

    size: int = msgspec.field(name="QueueSize")
    in_flight: int = msgspec.field(name="InFlightCount")
    consumers: int = msgspec.field(name="ConsumerCount")
    enqueued: int = msgspec.field(name="EnqueueCount")
    dequeued: int = msgspec.field(name="DequeueCount")


_FACTS = [field.encode_name for field in msgspec.structs.fields(Queue)]


class Broker(servers.Server, servers.Stood):
    """One broker. `with` starts it and takes it away.

    `users` (name: password) may log in, nobody else; without it everybody may. `rights` (a queue or a pattern like `shop.>`: who
    may read, write and make it) is for brokers with users: where there are any, all else is refused. `tls` encrypts STOMP,
    with the certificate at `ca`, which signs itself; at a second port, `mutual`, it also asks for a certificate of ours.
    `store_megabytes` is what the store may hold.
    """

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        rights: Mapping[str, Sequence[str]] | None = None,
        tls: bool = False,
        store_megabytes: int = 1024,
    ) -> None:
        self._ground = ground.Ground()
        here = self._ground.directory
        self.users = dict(users or {})
        self.tls = tls
        self.stomp, self.http, self.mutual = ports.free(3)
        keys = self._ground.template(f"activemq-keys-{ground.recipe(*_KEYTOOL, *_TRUST)}", _make_keys) if tls else None
        self.ca = keys / "ca.pem" if keys else None
        self.ours = certs.files(keys / _CLIENTS, _CLIENT) if keys else None
        """A certificate and its key, to show at the port `mutual`."""
        settings = here / "activemq.xml"
        settings.write_text(
            _settings(
                data=here / "data",
                connectors=_connectors(self.stomp, self.mutual if tls else 0),
                http=self.http,
                plugins=_plugins(self.users, rights or {}),
                keys=keys,
                store_megabytes=store_megabytes,
            )
        )
        homes = (f"-Dactivemq.home={_LIB.parent}", f"-Dactivemq.base={here}", f"-Djava.io.tmpdir={here}")
        main = ("org.apache.activemq.console.Main", "start", f"xbean:file:{settings}")
        super().__init__(here, "activemq", ["java", *_JAVA, *homes, "-cp", _classpath(), *main])

    def url(self, user: str | None = None) -> str:
        """Return the broker's address, for `user` (the first one, where there are any)."""
        return self._url(user, self.stomp) + (f"?tls=true&ca={self.ca}" if self.tls else "")

    def mutual_url(self, user: str | None = None) -> str:
        """As `url`, with the certificate that the broker asks for at its other port."""
        certificate, key = self.ours or ("", "")
        return f"{self._url(user, self.mutual)}?tls=true&ca={self.ca}&cert={certificate}&key={key}"

    def _url(self, user: str | None, port: int) -> str:
        name = user or next(iter(self.users), None)
        login = f"{name}:{parse.quote(self.users[name], safe='')}@" if name else ""
        return f"activemq://{login}127.0.0.1:{port}"

    def start(self) -> None:
        """Start it, if it does not run, and wait until it serves. TimeoutError with what it said."""
        super().start()
        try:
            servers.wait_for(self._ready, "the broker serves", START_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.said(60)}") from None

    def restart(self) -> None:
        """Kill it and start it anew: what was acknowledged is there again."""
        self.kill()
        self.start()

    def mend(self) -> None:
        """Let it serve again, whatever was done to it, with no message in any queue."""
        self.cont()
        self.start()
        for name in self.queues():
            self.remove(name)

    def close(self) -> None:
        """Kill it and remove its data. Allowed twice."""
        self.signal(signal.SIGKILL)
        self.kill()
        self._ground.clear()

    def queues(self) -> list[str]:
        """Return the names of its queues."""
        found = self._asked(type="read", mbean=_broker(), attribute="Queues")
        return sorted(str(each["objectName"]).partition("destinationName=")[2].partition(",")[0] for each in found)

    def queue(self, name: str) -> Queue:
        """Return what it says of a queue; zeros for one that it does not have."""
        try:
            found = self._asked(type="read", mbean=_queue(name), attribute=_FACTS)
        except LookupError:
            return Queue(0, 0, 0, 0, 0)
        return msgspec.convert(found, Queue)

    def send_text(self, name: str, body: str, headers: Mapping[str, str] | None = None) -> str:
        """Send a persistent message by Jolokia, as HTTP clients of the broker do; return the id that it got. Makes the queue."""
        self._asked(type="exec", mbean=_broker(), operation="addQueue(java.lang.String)", arguments=[name])
        given: list[Any] = [{"JMSDeliveryMode": "2", **(headers or {})}, body]
        kinds = "java.util.Map,java.lang.String"
        if self.users:
            given += next(iter(self.users.items()))
            kinds += ",java.lang.String,java.lang.String"
        return str(self._asked(type="exec", mbean=_queue(name), operation=f"sendTextMessage({kinds})", arguments=given))

    def browse(self, name: str) -> list[dict[str, Any]]:
        """Return the messages of a queue: their JMS headers, `Text` or `BodyPreview`, properties; none if it is not there."""
        try:
            return list(self._asked(type="exec", mbean=_queue(name), operation="browse()"))
        except LookupError:
            return []

    def remove(self, name: str) -> None:
        """Remove a queue with its messages, if it is there and has no consumers."""
        with contextlib.suppress(LookupError):
            self._asked(type="exec", mbean=_queue(name), operation="purge()")
            self._asked(type="exec", mbean=_broker(), operation="removeQueue(java.lang.String)", arguments=[name])

    def _asked(self, **question: Any) -> Any:
        """Return the value that Jolokia answers. Raises LookupError for what it has not, OSError when it does not answer."""
        body = msgspec.json.encode(question)
        asked = request.Request(f"http://127.0.0.1:{self.http}/api/jolokia/", body, {"Content-Type": "application/json"})
        with request.urlopen(asked, timeout=5) as answered:
            answer = msgspec.json.decode(answered.read())
        if answer.get("error_type") == "javax.management.InstanceNotFoundException":
            raise LookupError(answer["error"])
        if "value" not in answer:
            raise RuntimeError(f"Jolokia: {answer.get('error')}")
        return answer["value"]

    def _ready(self) -> bool:
        if not self.running:
            raise TimeoutError("the broker ended")
        with contextlib.suppress(OSError, LookupError, failures.URLError):
            return bool(self._asked(type="read", mbean=_broker(), attribute="TransportConnectors"))
        return False


def _broker() -> str:
    return f"org.apache.activemq:type=Broker,brokerName={NAME}"


def _queue(name: str) -> str:
    return f"{_broker()},destinationType=Queue,destinationName={name}"


def _named() -> list[Path]:
    return [*(_LIB / "optional" / f"{name}.jar" for name in _OPTIONAL), *(_JARS / f"{name}.jar" for name in _SYSTEM)]


@functools.cache
def _classpath() -> str:
    return ":".join(map(str, [*sorted(_LIB.glob("*.jar")), *_named()]))


_KEYTOOL = (
    *("-genkeypair", "-alias", "broker", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "3650"),
    *("-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1,dns:localhost", "-ext", "bc:c=ca:true"),
)


_QUICK = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")
_CLIENTS = "clients"
"""Where the certificates of clients are, and of who signed them."""
_CLIENT = "bridge"
_TRUST = ("-importcert", "-noprompt", "-alias", _CLIENTS)


def _make_keys(directory: Path) -> None:
    """Make a store with a certificate that signs itself, that certificate beside it, one for a client, a store that trusts it."""
    signed = certs.init(directory / _CLIENTS)
    certs.issue(directory / _CLIENTS, _CLIENT)
    for store, arguments in (
        ("keys", _KEYTOOL),
        ("keys", ("-exportcert", "-rfc", "-alias", "broker", "-file", str(directory / "ca.pem"))),
        ("trusted", (*_TRUST, "-file", str(signed.certificate))),
    ):
        place = ("-keystore", str(directory / f"{store}.p12"), "-storetype", "PKCS12", "-storepass", _STORE_PASSWORD)
        subprocess.run(["keytool", *_QUICK, *arguments, *place], check=True, capture_output=True)


def _plugins(users: Mapping[str, str], rights: Mapping[str, Sequence[str]]) -> str:
    if not users:
        return ""
    known = "".join(f"<authenticationUser {_given(username=name, password=word, groups=name)}/>" for name, word in users.items())
    parts = [f"<simpleAuthenticationPlugin anonymousAccessAllowed='false'><users>{known}</users></simpleAuthenticationPlugin>"]
    if rights:
        # The broker's own client, by which Jolokia sends, listens to advisories.
        allowed = [("topic", "ActiveMQ.Advisory.>", users), *(("queue", pattern, names) for pattern, names in rights.items())]
        entries = "".join(
            f"<authorizationEntry {_given(**{kind: pattern}, **dict.fromkeys(('read', 'write', 'admin'), ','.join(names)))}/>"
            for kind, pattern, names in allowed
        )
        inside = f"<authorizationMap><authorizationEntries>{entries}</authorizationEntries></authorizationMap>"
        parts.append(f"<authorizationPlugin><map>{inside}</map></authorizationPlugin>")
    return f"<plugins>{''.join(parts)}</plugins>"


def _given(**attributes: str) -> str:
    return " ".join(f"{name}={saxutils.quoteattr(value)}" for name, value in attributes.items())


def _connectors(stomp: int, mutual: int) -> str:
    """Describe where STOMP is spoken; `mutual` is the port where certificates are asked for, 0 without encryption."""
    scheme = "stomp+nio+ssl" if mutual else "stomp+nio"
    found = f"<transportConnector name='stomp' uri='{scheme}://127.0.0.1:{stomp}'/>"
    return (
        f"{found}<transportConnector name='mutual' uri='{scheme}://127.0.0.1:{mutual}?needClientAuth=true'/>" if mutual else found
    )


def _stores(keys: Path) -> str:
    """Describe what the broker shows, and whom it trusts."""
    parts = (("key", "keys"), ("trust", "trusted"))
    given = {f"{kind}Store": f"file:{keys}/{file}.p12" for kind, file in parts}
    given |= {f"{kind}StoreType": "PKCS12" for kind, _ in parts} | {f"{kind}StorePassword": _STORE_PASSWORD for kind, _ in parts}
    return f"<sslContext><sslContext {_given(**given)}/></sslContext>"


def _settings(*, data: Path, connectors: str, http: int, plugins: str, keys: Path | None, store_megabytes: int) -> str:
    """Return Spring's description of the broker, and of the web server within it that has Jolokia."""
    encrypted = _stores(keys) if keys else ""
    return f"""<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
 <broker xmlns="http://activemq.apache.org/schema/core" brokerName="{NAME}" dataDirectory="{data}" persistent="true" useJmx="true"
   advisorySupport="false" schedulerSupport="false" useShutdownHook="false">
  <destinationPolicy><policyMap><policyEntries><policyEntry queue="&gt;" prioritizedMessages="true" expireMessagesPeriod="1000">
   <deadLetterStrategy><individualDeadLetterStrategy queuePrefix="DLQ."/></deadLetterStrategy>
  </policyEntry></policyEntries></policyMap></destinationPolicy>
  <managementContext><managementContext createConnector="false"/></managementContext>
  <persistenceAdapter>
   <kahaDB directory="{data}/kahadb" journalMaxFileLength="1mb" preallocationScope="none"/>
  </persistenceAdapter>
  {plugins}
  {encrypted}
  <systemUsage><systemUsage>
   <memoryUsage><memoryUsage limit="64 mb"/></memoryUsage>
   <storeUsage><storeUsage limit="{store_megabytes} mb"/></storeUsage>
   <tempUsage><tempUsage limit="64 mb"/></tempUsage>
  </systemUsage></systemUsage>
  <transportConnectors>{connectors}</transportConnectors>
 </broker>
 <bean id="jolokia" class="org.eclipse.jetty.servlet.ServletHolder">
  <constructor-arg><bean class="org.jolokia.http.AgentServlet"/></constructor-arg>
  <property name="initParameters"><map>
   <entry key="mimeType" value="application/json"/><entry key="discoveryEnabled" value="false"/>
  </map></property>
 </bean>
 <bean id="paths" class="org.eclipse.jetty.servlet.ServletContextHandler"><property name="contextPath" value="/api"/></bean>
 <bean id="wired" class="org.springframework.beans.factory.config.MethodInvokingFactoryBean">
  <property name="targetObject" ref="paths"/><property name="targetMethod" value="addServlet"/>
  <property name="arguments"><list><ref bean="jolokia"/><value>/jolokia/*</value></list></property>
 </bean>
 <bean class="org.eclipse.jetty.server.Server" init-method="start" destroy-method="stop" depends-on="wired">
  <constructor-arg><bean class="java.net.InetSocketAddress">
   <constructor-arg value="127.0.0.1"/><constructor-arg type="int" value="{http}"/>
  </bean></constructor-arg>
  <property name="handler" ref="paths"/>
 </bean>
</beans>
"""
