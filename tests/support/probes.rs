//! A command line for every command that answers once: the least that makes it succeed on the fixtures of
//! `catalog_effects.rs`. `!` marks one that Redis refuses here, with the reason behind `#`; `c` one that needs cluster
//! mode. `{dump}`, `{library}`, `{sha}` and `{node}` stand for what only the server can tell.

pub const PROBES: &str = r"
acl cat
acl deluser nobody
acl dryrun default get s
acl genpass
acl getuser default
acl help
acl list
! acl load # there is no ACL file
acl log
! acl save # there is no ACL file
acl setuser eve on
acl users
acl whoami
append s x
c asking
bgrewriteaof
bgsave schedule
bitcount s
bitfield s get u8 0
bitfield_ro s get u8 0
bitop and d s
bitpos s 1
blmove none d left left 0
blmpop 0 1 none left
blpop none 0
brpop none 0
brpoplpush none d 0
bzmpop 0 1 none min
bzpopmax none 0
bzpopmin none 0
client caching yes
client getname
client getredir
client help
client id
client info
client kill id 999999999
client list
client no-evict on
client pause 1
client setname somebody
client tracking on
client trackinginfo
client unblock 999999999
client unpause
c cluster addslots 1
c cluster addslotsrange 2 3
c cluster bumpepoch
c cluster count-failure-reports {node}
c cluster countkeysinslot 1
c cluster delslots 1
c cluster delslotsrange 2 3
! c cluster failover # a master has nothing to fail over to
c cluster flushslots
! c cluster forget {node} # a node does not forget itself
c cluster getkeysinslot 1 1
c cluster help
c cluster info
c cluster keyslot k
c cluster links
c cluster meet 127.0.0.1 1 1
c cluster myid
c cluster nodes
c cluster replicas {node}
! c cluster replicate {node} # a node does not replicate itself
c cluster reset hard
c cluster saveconfig
c cluster set-config-epoch 1
c cluster setslot 1 stable
c cluster shards
c cluster slaves {node}
c cluster slots
command
command count
command docs get
command getkeys get s
command getkeysandflags get s
command help
command info get
command list
config get maxmemory
config help
config resetstat
config rewrite
config set maxmemory 0
copy s d
dbsize
debug sleep 0
decr s
decrby s 1
del s
dump s
echo hello
exists s
expire s 100
expireat s 99999999999
expiretime s
! failover # there is no replica
flushall
flushdb
function delete lib
function dump
function flush
function help
! function kill # no function is running
function list
function load replace {source}
function restore {library} replace
function stats
geoadd geo 1 1 c
geodist geo a b
geohash geo a
geopos geo a
georadius geo 15 37 200 km
georadius_ro geo 15 37 200 km
georadiusbymember geo a 200 km
georadiusbymember_ro geo a 200 km
geosearch geo fromlonlat 15 37 byradius 200 km
geosearchstore d geo fromlonlat 15 37 byradius 200 km
get s
getbit s 0
getdel s
getex s
getrange s 0 1
getset s 1
hdel h f
hexists h f
hget h f
hgetall h
hincrby h f 1
hincrbyfloat h f 1
hkeys h
hlen h
hmget h f
hmset h f 2
hrandfield h
hscan h 0
hset h f 2
hsetnx h g 2
hstrlen h f
hvals h
incr s
incrby s 1
incrbyfloat s 1
info
keys *
lastsave
latency doctor
! latency graph command # nothing has been sampled
latency help
latency histogram
latency history command
latency latest
latency reset
lcs s u
lindex l 0
linsert l before a x
llen l
lmove l d left left
lmpop 1 l left
lolwut
lpop l
lpos l a
lpush l x
lpushx l x
lrange l 0 -1
lrem l 0 a
lset l 0 x
ltrim l 0 0
memory doctor
memory help
memory malloc-stats
memory purge
memory stats
memory usage s
mget s u
migrate 127.0.0.1 1 none 0 100
module help
module list
! module load /nonexistent.so # there is no module to load
! module loadex /nonexistent.so # there is no module to load
! module unload nosuch # there is no module to unload
move s 1
mset s 1 u 2
msetnx n 1 m 2
object encoding s
! object freq s # the eviction policy is not LFU
object help
object idletime s
object refcount s
persist s
pexpire s 100000
pexpireat s 99999999999999
pexpiretime s
pfadd p b
pfcount p
pfdebug encoding p
pfmerge d p
pfselftest
ping
psetex s 100000 v
pttl s
publish c m
pubsub channels
pubsub help
pubsub numpat
pubsub numsub c
pubsub shardchannels
pubsub shardnumsub c
randomkey
c readonly
c readwrite
rename s d
renamenx s d
replicaof no one
restore d 0 {dump}
restore-asking d 0 {dump}
role
rpop l
rpoplpush l d
rpush l x
rpushx l x
sadd t x
save
scan 0
scard t
script exists {sha}
script flush
script help
! script kill # no script is running
script load return(2)
sdiff t
sdiffstore d t
set s v
setbit s 0 1
setex s 100 v
setnx n v
setrange s 0 x
sinter t
sintercard 1 t
sinterstore d t
sismember t a
slaveof no one
slowlog get
slowlog help
slowlog len
slowlog reset
smembers t
smismember t a
smove t d a
sort l alpha
sort_ro l alpha
spop t
spublish c m
srandmember t
srem t a
sscan t 0
strlen s
substr s 0 1
sunion t
sunionstore d t
swapdb 0 1
time
touch s
ttl s
type s
unlink s
unwatch
wait 1 0
watch s
xack x g 1-1
xadd x 2-1 f v
xautoclaim x g c 0 0
xclaim x g c 0 1-1
xdel x 1-1
xgroup create x g2 0
xgroup createconsumer x g c2
xgroup delconsumer x g c
xgroup destroy x g
xgroup help
xgroup setid x g 0
xinfo consumers x g
xinfo groups x
xinfo help
xinfo stream x
xlen x
xpending x g
xrange x - +
xread streams x 0
xreadgroup group g c streams x >
xrevrange x + -
xsetid x 2-1
xtrim x maxlen 1
zadd z 3 c
zcard z
zcount z 0 9
zdiff 1 z
zdiffstore d 1 z
zincrby z 1 a
zinter 1 z
zintercard 1 z
zinterstore d 1 z
zlexcount z - +
zmpop 1 z min
zmscore z a
zpopmax z
zpopmin z
zrandmember z
zrange z 0 -1
zrangebylex z - +
zrangebyscore z 0 9
zrangestore d z 0 -1
zrank z a
zrem z a
zremrangebylex z [a [a
zremrangebyrank z 0 0
zremrangebyscore z 0 1
zrevrange z 0 -1
zrevrangebylex z + -
zrevrangebyscore z 9 0
zrevrank z a
zscan z 0
zscore z a
zunion 1 z
zunionstore d 1 z
eval return(1) 0
eval_ro return(1) 0
evalsha {sha} 0
evalsha_ro {sha} 0
fcall f 0
fcall_ro f 0
client capa redirect
client import-source off
client no-touch on
client setinfo lib-name x
! c cluster cancelslotmigrations # there are none
c cluster flushslot 1
c cluster getslotmigrations
! c cluster migrateslots slotsrange 1 1 node {node} # a node does not migrate to itself
! c cluster migration import 1 1 # the slot is its own
c cluster myshardid
c cluster slot-stats slotsrange 0 1
! c clusterscan 0 # nobody serves the slot
commandlog get 1 slow
commandlog help
commandlog len slow
commandlog reset slow
delex s
delifeq s 10
digest s
hexpire h 100 fields 1 f
hexpireat h 9999999999 fields 1 f
hexpiretime h fields 1 f
hgetdel h fields 1 f
hgetex h fields 1 f
hotkeys get
hotkeys help
hotkeys reset
hotkeys start metrics 1 cpu
hotkeys stop
hpersist h fields 1 f
hpexpire h 100000 fields 1 f
hpexpireat h 9999999999999 fields 1 f
hpexpiretime h fields 1 f
hpttl h fields 1 f
hsetex h fields 1 f 2
httl h fields 1 f
msetex 1 s v
script show {sha}
c trimslots ranges 1 0 1
vadd v values 2 1 2 b
vcard v
vdim v
vemb v a
vgetattr v a
vinfo v
vismember v a
vlinks v a
vrandmember v
vrange v - +
vrem v a
vsetattr v a {}
vsim v ele a
xackdel x g ids 1 1-1
xcfgset x idmp-duration 10
xdelex x ids 1 1-1
xidmprecord x p i 1-1
waitaof 0 1 0
";

/// One line of [`PROBES`].
pub struct Probe {
    pub words: Vec<&'static str>,
    /// Why Redis refuses it, if it does.
    pub refused: Option<&'static str>,
    pub cluster: bool,
}

pub fn probes() -> Vec<Probe> {
    PROBES.lines().filter(|line| !line.is_empty()).map(probe).collect()
}

fn probe(line: &'static str) -> Probe {
    let (line, refused) = match line.strip_prefix("! ") {
        Some(line) => line.split_once(" # ").map(|(line, reason)| (line, Some(reason))).expect("a reason behind #"),
        None => (line, None),
    };
    let (line, cluster) = line.strip_prefix("c ").map_or((line, false), |line| (line, true));
    Probe { words: line.split(' ').collect(), refused, cluster }
}
