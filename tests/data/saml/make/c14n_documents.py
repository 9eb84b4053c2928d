"""Random documents, and what libxml2 makes of an element of each by exclusive canonicalization.

Usage: c14n_documents.py COUNT SEED > FILE
"""

import ctypes
import ctypes.util
import json
import random
import sys

lib = ctypes.CDLL(ctypes.util.find_library("xml2") or "libxml2.so.2")
P, I = ctypes.c_void_p, ctypes.c_int
lib.xmlReadMemory.restype = P
lib.xmlReadMemory.argtypes = [ctypes.c_char_p, I, ctypes.c_char_p, ctypes.c_char_p, I]
lib.xmlDocGetRootElement.restype = P
lib.xmlDocGetRootElement.argtypes = [P]
lib.xmlAllocOutputBuffer.restype = P
lib.xmlAllocOutputBuffer.argtypes = [P]
lib.xmlOutputBufferGetContent.restype = P
lib.xmlOutputBufferGetContent.argtypes = [P]
lib.xmlOutputBufferGetSize.restype = ctypes.c_size_t
lib.xmlOutputBufferGetSize.argtypes = [P]
lib.xmlOutputBufferClose.argtypes = [P]
lib.xmlFreeDoc.argtypes = [P]
VISIBLE = ctypes.CFUNCTYPE(I, P, P, P)
lib.xmlC14NExecute.argtypes = [P, VISIBLE, P, I, P, I, P]


class Node(ctypes.Structure):
    _fields_ = [("private", P), ("type", I), ("name", ctypes.c_char_p), ("children", P), ("last", P), ("parent", P), ("next", P)]


def at(address):
    return ctypes.cast(address, ctypes.POINTER(Node)).contents


def elements(address):
    """The elements of a tree, in document order."""
    while address:
        node = at(address)
        if node.type == 1:
            yield address
            yield from elements(node.children)
        address = node.next


def canonical(xml, apex, without, prefixes):
    doc = lib.xmlReadMemory(xml, len(xml), b"x.xml", None, 1 << 11 | 1 << 5 | 1 << 6)
    assert doc, xml
    try:
        all_elements = list(elements(lib.xmlDocGetRootElement(doc)))
        apex = all_elements[apex]
        without = all_elements[without] if without is not None else None

        def visible(_, node, parent):
            node = parent if at(node).type in (2, 18) else node
            while node:
                if node == without:
                    return 0
                if node == apex:
                    return 1
                node = at(node).parent
            return 0

        buffer = lib.xmlAllocOutputBuffer(None)
        names = [p.encode() for p in prefixes] + [None]
        array = (ctypes.c_char_p * len(names))(*names)
        done = lib.xmlC14NExecute(doc, VISIBLE(visible), None, 1, ctypes.cast(array, P), 0, buffer)
        assert done >= 0, xml
        text = ctypes.string_at(lib.xmlOutputBufferGetContent(buffer), lib.xmlOutputBufferGetSize(buffer))
        lib.xmlOutputBufferClose(buffer)
        return text.decode(), len(all_elements)
    finally:
        lib.xmlFreeDoc(doc)


PREFIXES = ["a", "b", "c", "xs"]
SPACES = ["urn:1", "urn:2", "http://example.com/3", "urn:4'x#y"]
TEXTS = ["", " ", "x", "é", "😀", "\n", "\t", "\r\n", "\r", ">", "'", '"', "&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#13;", "&#10;", "&#9;", "&#x20;", "&#xE9;", "&#128512;", "\u0085", "\u2028"]


def generate(r):
    count = [0]
    choice = r.choice

    def text():
        return "".join(choice(TEXTS) for _ in range(r.randrange(5)))

    def element(depth, scope, default):
        count[0] += 1
        scope, declarations = dict(scope), []
        for prefix in PREFIXES:
            if r.random() < 0.2:
                scope[prefix] = choice(SPACES)
                declarations.append(f'xmlns:{prefix}={quote(scope[prefix])}')
        if r.random() < 0.2:
            default = choice(SPACES + [""])
            declarations.append(f"xmlns={quote(default)}")
        names, attributes = set(), []
        for _ in range(r.randrange(4)):
            prefix = choice(["", "", "xml"] + list(scope))
            local = choice(["x", "y", "Z", "long-name", "lang"])
            key = (scope.get(prefix, prefix), local)
            if key not in names:
                names.add(key)
                value = text()
                q = choice("\"'")
                attributes.append(f"{prefix}:{local}".lstrip(":") + choice(["=", " = ", "\n="]) + q + value.replace(q, "") + q)
        both = declarations + attributes
        r.shuffle(both)
        prefix = choice(["", ""] + list(scope))
        name = f"{prefix}:{choice(['p', 'q', 'Name_1.x-y'])}".lstrip(":")
        tag = name + "".join(choice([" ", "\n", "  "]) + part for part in both)
        inner = []
        for _ in range(r.randrange(5) if depth else 0):
            kind = r.random()
            if kind < 0.5 and count[0] < 30:
                inner.append(element(depth - 1, scope, default))
            elif kind < 0.7:
                inner.append(text())
            elif kind < 0.8:
                inner.append("<!-- c -->")
            else:
                inner.append("<![CDATA[" + choice(["", "x", "<&>", "]]", "\r\n", " "]) + "]]>")
        inner = "".join(inner)
        if not inner and r.random() < 0.5:
            return f"<{tag}{choice(['', ' '])}/>"
        return f"<{tag}>{inner}</{name}{choice(['', ' '])}>"

    return element(5, {}, ""), count[0]


def quote(value):
    return f'"{value}"'


def main():
    r = random.Random(int(sys.argv[2]))
    cases = []
    for _ in range(int(sys.argv[1])):
        xml, count = generate(r)
        apex = r.randrange(count)
        without = r.choice([None, r.randrange(count)])
        if without is not None and without <= apex:
            without = None
        prefixes = r.sample(PREFIXES + ["#default", "nowhere"], r.choice([0, 0, 1, 2]))
        text, _ = canonical(xml.encode(), apex, without, prefixes)
        cases.append({"xml": xml, "element": apex, "without": without, "prefixes": prefixes, "canonical": text})
    json.dump(cases, sys.stdout, ensure_ascii=True, separators=(",", ":"))


main()
