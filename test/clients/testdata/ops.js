// Runs operations from standard input with basic-ftp: module tls host port user password ca.
const fs = require("fs")
const [module_, tls, host, port, user, password, ca] = process.argv.slice(2)
const ftp = require(module_)

async function main() {
    const client = new ftp.Client(60000)
    await client.access({
        host, port: Number(port), user, password,
        secure: tls === "implicit" ? "implicit" : tls === "explicit",
        secureOptions: { ca: fs.readFileSync(ca) },
    })
    for (const line of fs.readFileSync(0, "utf8").split("\n").filter(Boolean)) {
        const [verb, a, b] = line.split("\t")
        switch (verb) {
            case "put": await client.uploadFrom(a, b); break
            case "get": await client.downloadTo(b, a); break
            case "list": for (const f of await client.list(a)) console.log(f.name); break
            case "mkdir": await client.send("MKD " + a); break
            case "rmdir": await client.removeDir(a); break
            case "rename": await client.rename(a, b); break
            case "delete": await client.remove(a); break
            case "reget": await client.downloadTo(fs.createWriteStream(b, { flags: "a" }), a, fs.statSync(b).size); break
            case "reput": await client.appendFrom(fs.createReadStream(a, { start: await client.size(b) }), b); break
            default: throw new Error("unknown " + verb)
        }
    }
    client.close()
}
main().catch(err => { console.error(err); process.exit(1) })
