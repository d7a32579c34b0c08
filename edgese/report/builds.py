"""What a continuous build shows of a gate: JUnit XML, SARIF, GitHub's annotations, Markdown; text.

Whatever is not met is a failure in each of them: a build server counts what is skipped as passed.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Final

from edgese.records.budget import GateCell, GateResult, Judged

# What XML 1.0 has no way to say.
_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
_HOME: Final = "https://github.com/edgese/edgese"


def value_text(judged: Judged) -> str:
    """What was found, in its unit; a dash where nothing is known."""
    return "-" if judged.value is None else _told(judged.quantity)(judged.value)


def bound_text(judged: Judged) -> str:
    """The limit, as a comparison."""
    return f"{'at most' if judged.at_most else 'at least'} {_told(judged.quantity)(judged.bound)}"


def interval_text(judged: Judged) -> str:
    """What the verdict was made by; "exact" where nothing spreads."""
    if judged.interval is None:
        return "exact" if judged.value is not None and judged.verdict != "unclear" else "-"
    tell = _told(judged.quantity)
    return f"{tell(judged.interval.low)} to {tell(judged.interval.high)}"


def seen_text(judged: Judged) -> str:
    """From where on such data show a miss; a dash where that says nothing."""
    return "-" if judged.smallest_seen is None else _told(judged.quantity)(judged.smallest_seen)


def sentence(cell: GateCell) -> str:
    """A cell in one line."""
    judged = cell.judged
    found = f"{value_text(judged)} ({interval_text(judged)})" if judged.value is not None else ""
    reason = judged.reason.removesuffix(".")
    parts = [f"{judged.limit} {judged.verdict}", found, bound_text(judged), reason]
    return "; ".join(part for part in (*parts, next_text(judged)) if part)


def next_text(judged: Judged) -> str:
    """Return what settles an unclear verdict; "" of the others."""
    return f"this would settle it: {judged.next_step}" if judged.next_step else ""


def junit_of(result: GateResult) -> str:
    """JUnit XML: a suite for each artifact on a device, a case for each limit."""
    # Written alone; nothing of it is read.
    from xml.etree import ElementTree as ET

    suites = ET.Element("testsuites", name="edgese gate")
    groups: dict[str, list[GateCell]] = {}
    for cell in result.cells:
        groups.setdefault(_xml(f"{cell.name} on {cell.device} ({cell.target})"), []).append(cell)
    for name, cells in groups.items():
        failed = sum(cell.judged.verdict != "meets" for cell in cells)
        suite = ET.SubElement(
            suites,
            "testsuite",
            name=name,
            tests=str(len(cells)),
            failures=str(failed),
            errors="0",
            timestamp=result.created,
        )
        properties = ET.SubElement(suite, "properties")
        for what, path in result.deciding.items():
            ET.SubElement(properties, "property", name=what, value=_xml(path))
        for cell in cells:
            case = ET.SubElement(suite, "testcase", classname=name, name=cell.judged.limit)
            text = _xml(sentence(cell))
            if cell.judged.verdict == "meets":
                ET.SubElement(case, "system-out").text = text
            else:
                failure = ET.SubElement(case, "failure", type=cell.judged.verdict, message=text)
                failure.text = text
    if result.untrusted:
        count = str(len(result.untrusted))
        suite = ET.SubElement(
            suites,
            "testsuite",
            name="inputs",
            tests=count,
            failures="0",
            errors=count,
            timestamp=result.created,
        )
        for one in result.untrusted:
            case = ET.SubElement(suite, "testcase", classname="inputs", name=_xml(one.origin))
            error = ET.SubElement(
                case, "error", type=f"exit code {one.exit_code}", message=_xml(one.message)
            )
            error.text = _xml(f"{one.message}\n{one.hint}")
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def sarif_of(result: GateResult) -> str:
    """SARIF 2.1.0, with a result for everything that is not met.

    Source: OASIS, "Static Analysis Results Interchange Format Version 2.1.0".
    """
    cells = [cell for cell in result.cells if cell.judged.verdict != "meets"]
    limits = sorted({cell.judged.limit for cell in cells})
    rules = [
        {"id": limit, "shortDescription": {"text": f"The budget's {limit}"}} for limit in limits
    ]
    if result.untrusted:
        rules.append({"id": "untrusted", "shortDescription": {"text": "An input that is no proof"}})
    results = [
        _sarif_result(
            cell.judged.limit,
            "error" if cell.judged.verdict == "misses" else "warning",
            f"{cell.name} on {cell.device} ({cell.target}): {sentence(cell)}",
            cell.origin,
            f"{cell.name}/{cell.device}/{cell.target}/{cell.judged.limit}",
        )
        for cell in cells
    ]
    results += [
        _sarif_result(
            "untrusted", "error", f"{one.message} {one.hint}", one.origin, f"untrusted/{one.origin}"
        )
        for one in result.untrusted
    ]
    document = {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/"
        "sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "edgese",
                        "version": result.edgese,
                        "informationUri": _HOME,
                        "rules": rules,
                    }
                },
                "invocations": [{"executionSuccessful": True, "exitCode": result.exit_code}],
                "properties": result.deciding,
                "results": results,
            }
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def annotations(result: GateResult) -> Iterator[str]:
    """GitHub's workflow commands, one for each thing that is not met.

    Source: "Workflow commands for GitHub Actions", docs.github.com.
    """
    for cell in result.cells:
        if cell.judged.verdict != "meets":
            title = f"{cell.name} on {cell.device}: {cell.judged.limit} {cell.judged.verdict}"
            yield f"::error title={_property(title)}::{_message(sentence(cell))}"
    for one in result.untrusted:
        text = _message(f"{one.message}\n{one.hint}")
        yield f"::error title={_property(f'{one.origin} is not trusted')}::{text}"


def markdown_of(result: GateResult) -> str:
    """A summary with a table, as GitHub and GitLab show it."""
    outcome = "passed" if result.exit_code == 0 else f"not passed (exit code {result.exit_code})"
    lines = [f"### edgese gate: {outcome}", ""]
    if result.cells:
        lines += [
            "| artifact | device | target | limit | bound | found | interval | verdict |",
            "|---|---|---|---|--:|--:|--:|---|",
        ]
    for cell in result.cells:
        judged = cell.judged
        verdict = judged.verdict if judged.verdict == "meets" else f"**{judged.verdict}**"
        row = (
            cell.name,
            cell.device,
            cell.target,
            judged.limit,
            bound_text(judged),
            value_text(judged),
            interval_text(judged),
        )
        lines.append(f"| {' | '.join(map(_cell, row))} | {verdict} |")
    told = [
        f"- {_cell(cell.name)}: {_cell(sentence(cell))}"
        for cell in result.cells
        if cell.judged.verdict != "meets"
    ]
    told += [
        f"- not trusted: {_cell(one.origin)}: {_cell(one.message)} {_cell(one.hint)}"
        for one in result.untrusted
    ]
    told += [f"- {_cell(note)}" for note in result.notes]
    told += [f"- {what}: {_cell(path)}" for what, path in result.deciding.items()]
    return "\n".join([*lines, "", *told]).rstrip() + "\n"


def _told(quantity: str) -> Callable[[float], str]:
    if quantity.endswith("_ms"):
        return lambda value: f"{value:.2f} ms"
    if quantity in ("slowdown", "size_growth", "memory_growth"):
        return lambda value: f"{100 * value:+.1f} %"
    if quantity in ("accuracy", "accuracy_drop"):
        return lambda value: f"{100 * value:.2f} %"
    return {
        "size_bytes": lambda value: f"{value / 1e6:.3f} MB",
        "memory_mb": lambda value: f"{value:.1f} MiB",
        "macs": lambda value: f"{value / 1e6:.2f} M",
        "instructions": lambda value: f"{value / 1e6:.2f} M",
    }.get(quantity, lambda value: f"{value:g}")


def _sarif_result(
    rule: str, level: str, text: str, origin: str, fingerprint: str
) -> dict[str, object]:
    from urllib.parse import quote

    place = {
        "physicalLocation": {
            "artifactLocation": {"uri": quote(origin or "edgese.toml")},
            # Viewers drop what has no line.
            "region": {"startLine": 1},
        }
    }
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": text},
        "locations": [place],
        "partialFingerprints": {"edgeseCell/v1": fingerprint},
    }


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
