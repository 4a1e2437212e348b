# circles.awk: circles of files in one crate, each import of them with the name that ties it.
#   awk -f scripts/circles.awk src/lib.rs src/a.rs src/a/b.rs …
# Exit code 1 if there is one.
#
# A file is a module: src/a/b.rs and src/a/b/mod.rs are `a::b`, src/lib.rs is ``. From its code, without
# comments, strings and tests, come the paths it names: those of `use`, with braces opened, and those that
# begin with crate, super, self or a module of its own where they are used. A name that a module has itself
# imported is followed to the file that defines it; `pub use` only hands a name on and is no import of that
# file. Methods are not seen: what two files of one type call of each other is not a circle here.

function module_of(file,   m) {
    m = file
    sub(/^.*src\//, "", m); sub(/\.rs$/, "", m); sub(/\/mod$/, "", m); sub(/^mod$/, "", m)
    if (m == "lib" || m == "main") m = ""
    gsub(/\//, "::", m)
    return m
}
function parent(m) { return sub(/::[^:]*$/, "", m) ? m : "" }
function below(m, name) { return m == "" ? name : m "::" name }

FNR == 1 { here = module_of(FILENAME); file_of[here] = FILENAME; order[++modules] = here; tests = 0 }
/^#\[cfg\((test|all\(test)/ { tests = 1 }
tests { next }
{
    line = $0
    gsub(/\\"/, "", line); gsub(/"[^"]*"/, "", line); sub(/\/\/.*/, "", line); gsub(/pub\(in [a-z_:]*\)/, "pub", line)
    text[here] = text[here] " " line
}

# Opens the braces of a use tree: prefix and the rest, to one path each.
function open_tree(m, prefix, tree, shared,   i, c, depth, start, head) {
    gsub(/^ +| +$/, "", tree)
    i = index(tree, "{")
    if (!i) { if (tree != "") imported(m, prefix tree, shared); return }
    head = prefix substr(tree, 1, i - 1)
    gsub(/ /, "", head)
    tree = substr(tree, i + 1); sub(/} *$/, "", tree)
    depth = 0; start = 1
    for (i = 1; i <= length(tree) + 1; i++) {
        c = substr(tree, i, 1)
        if (c == "{") depth++
        else if (c == "}") depth--
        else if ((c == "," && depth == 0) || c == "") {
            open_tree(m, head, substr(tree, start, i - start), shared)
            start = i + 1
        }
    }
}
function imported(m, path,   name) {
    name = path
    if (path ~ / as /) { sub(/^.* as +/, "", name); sub(/ +as .*/, "", path) }
    gsub(/ /, "", path); sub(/::self$/, "", path)
    if (name == path || name ~ /::self$/) { name = path; sub(/^.*::/, "", name) }
    gsub(/ /, "", name)
    alias[m, name] = path
    if (!shared) uses[m, ++number[m]] = path
}
# The module in which what `path` names, seen from module m, is defined; "?" if it is of another crate.
function resolve(m, path, depth,   n, part, i, at) {
    if (depth > 12) return "?"
    n = split(path, part, "::")
    i = 1
    if (part[1] == "crate") at = ""
    else if (part[1] == "self") at = m
    else if (part[1] == "super") at = parent(m)
    else if (below(m, part[1]) in file_of) at = below(m, part[1])
    else if (depth && (m, part[1]) in alias && alias[m, part[1]] != path) {
        path = substr(path, length(part[1]) + 1)
        return resolve(m, alias[m, part[1]] path, depth + 1)
    }
    else return "?"
    for (i = 2; i <= n; i++) {
        if (part[i] == "super") { at = parent(at); continue }
        if (below(at, part[i]) in file_of) { at = below(at, part[i]); continue }
        if ((at, part[i]) in alias && at != m) {
            path = alias[at, part[i]]
            for (i++; i <= n; i++) path = path "::" part[i]
            return resolve(at, path, depth + 1)
        }
        break
    }
    return at
}
function arrow(from, path,   to, name) {
    to = resolve(from, path, 0)
    if (to == "?" || to == from) return
    # A path that ends at a module only brings its name in; the paths that go on from there count.
    name = path; sub(/^.*::/, "", name)
    reaches[from, to] = 1
    if (!((from, to) in arrows)) arrows[from, to] = name
    else if (index(", " arrows[from, to] ",", ", " name ",") == 0) arrows[from, to] = arrows[from, to] ", " name
}

END {
    for (i = 1; i <= modules; i++) {
        m = order[i]; rest = text[m]; code[m] = ""
        while (match(rest, /(^|[ ;{}])(pub(\([a-z: ]*\))? +)?use +[^;]*;/)) {
            code[m] = code[m] substr(rest, 1, RSTART)
            tree = substr(rest, RSTART, RLENGTH)
            rest = substr(rest, RSTART + RLENGTH)
            shared = tree ~ /^.?pub/
            sub(/^.?(pub(\([a-z: ]*\))? +)?use +/, "", tree); sub(/^ *use +/, "", tree); sub(/;$/, "", tree)
            open_tree(m, "", tree, shared)
        }
        code[m] = code[m] rest
    }
    for (i = 1; i <= modules; i++) {
        m = order[i]
        for (j = 1; j <= number[m]; j++) arrow(m, uses[m, j])
        rest = code[m]
        while (match(rest, /[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)+/)) {
            arrow(m, substr(rest, RSTART, RLENGTH))
            rest = substr(rest, RSTART + RLENGTH)
        }
    }
    for (k = 1; k <= modules; k++)
        for (i = 1; i <= modules; i++)
            if (reaches[order[i], order[k]])
                for (j = 1; j <= modules; j++)
                    if (reaches[order[k], order[j]]) reaches[order[i], order[j]] = 1
    for (key in arrows) {
        split(key, end, SUBSEP)
        if (!reaches[end[2], end[1]]) continue
        print file_of[end[1]] " -> " file_of[end[2]] ": " arrows[key] | "sort"
        bad = 1
    }
    close("sort")
    exit bad
}
