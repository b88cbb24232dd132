<?php // A whole shop on the merchant's agent, with Debian's php-cli alone: order page, payment both ways, delivery, call-backs, stock, staff.
//   HANBIT_KEYS=./shop-keys PHP_CLI_SERVER_WORKERS=4 php -S 127.0.0.1:3000 index.php; several workers, because one that waits for an outcome
//   answers no call-back meanwhile. Then open http://shop.localhost:3000; docs/guide/merchant.md sets it up.
ini_set('display_errors', '0'); // what goes wrong is written to the log, not into a page
const PRICE = 1200, WAIT_S = 10, BODY_MAX = 524288, CODE = '/^[\w-]{20}$/D', COOKIE = ['path' => '/', 'httponly' => true, 'samesite' => 'Lax'];
foreach (['HANBIT_KEYS' => 'shop-keys', 'HANBIT_AGENT' => 'http://127.0.0.1:8405', 'SHOP_URL' => 'http://shop.localhost:3000',
    'SHOP_BOOK' => 'shop-book.json', 'SHOP_STAFF' => 'staff.token', 'SHOP_STOCK' => '20'] as $name => $usual) define($name, getenv()[$name] ?? $usual);
function near(string $file): string { return trim(file_get_contents(__DIR__ . "/../$file")); }
define('WORDS', json_decode(near('words.json'), true));
// The agent's API. A write carries a key of its own, so that sending it once more after a lost answer does nothing twice.
function agent(string $method, string $path, string $body = '', string $key = '', int $tries = 3): array {
    $token = trim(file_get_contents(HANBIT_KEYS . '/agent.token'));
    $headers = ["Authorization: Bearer $token", 'Content-Type: application/json', "Idempotency-Key: $key"];
    $http = ['method' => $method, 'header' => $headers, 'content' => $body, 'timeout' => WAIT_S + 5, 'ignore_errors' => true, 'follow_location' => 0];
    $answer = @file_get_contents(HANBIT_AGENT . $path, false, stream_context_create(['http' => $http]));
    $heads = $answer === false ? "HTTP/1.1 503\nRetry-After: 1" : implode("\n", $http_response_header);
    if (($status = (int) substr($heads, strlen('HTTP/1.1 '), 3)) < 300) return json_decode($answer, true, 512, JSON_THROW_ON_ERROR);
    error_log("$method $path: " . ($answer ?: 'no answer'));
    if ($tries === 1 || !preg_match('~^Retry-After:~mi', $heads)) throw new RuntimeException('unavailable', $status);
    sleep(1);
    return agent($method, $path, $body, $key, $tries - 1);
}
function text(mixed $value, string $form): ?string { return is_string($value) && preg_match($form, $value) ? $value : null; }
function code(): string { return strtr(base64_encode(random_bytes(15)), '+/', '-_'); }
function won(array $say, string|int $amount): string { return str_replace('{}', number_format((int) $amount), $say['won']); }
function hashed(string $file): string { return "'sha256-" . base64_encode(hash('sha256', near($file), true)) . "'"; }
function fill(string $name, array $values): string { // in a template {name} is escaped, {=name} is not
    return preg_replace_callback('/{(=?)(\w+)}/', fn ($one) => $one[1] ? $values[$one[2]] : htmlspecialchars($values[$one[2]]), near("pages/$name.html"));
}
function page(array $say, string $title, string $content, string $policy = ''): void {
    header("Content-Security-Policy: default-src 'none'; style-src " . hashed('shop.css') . "; base-uri 'none'; frame-ancestors 'none'$policy");
    echo fill('page', ['style' => near('shop.css'), 'title' => $title, 'content' => $content] + $say);
}
function order_page(array $say, ?string $customer): void {
    foreach (['customer' => $customer ?? code(), 'lang' => $say['lang']] as $name => $value) setcookie($name, $value, COOKIE);
    page($say, $say['order'], fill('order', ['key' => code(), 'amount' => won($say, PRICE)] + $say));
}

// Both ways to pay begin with the same order: the browser goes to the bank's page, or to the order's own, which has the button.
function place_order(array $say, ?string $customer): void {
    [$quantity, $key, $lang] = [text($_POST['quantity'] ?? '', '/^[1-3]$/D'), text($_POST['key'] ?? '', CODE), $say['lang']];
    if (!$customer || !$quantity || !$key) throw new RuntimeException('unreadable', 400);
    $order = ['lines' => [['item' => 'arirang', 'quantity' => (int) $quantity, 'price_minor' => PRICE]], 'amount' => (string) ($quantity * PRICE),
        'currency' => 'KRW', 'text' => $say['item'], 'language' => $lang, 'owner' => $customer, 'return_url' => SHOP_URL . '/return'];
    ['tid' => $tid, 'redirect' => $redirect] = agent('POST', '/orders', json_encode($order, JSON_THROW_ON_ERROR), "$customer.$key.$quantity.$lang");
    header('Location: ' . (($_POST['way'] ?? '') === 'here' ? "/order?TID=$tid" : $redirect), true, 303);
}
// An address proves nothing: the order must be this browser's own, and the agent alone knows what became of it.
function own_order(?string $customer, int $wait = 0): array {
    $own = $customer ? array_column(agent('GET', "/orders?limit=100&owner=$customer")['orders'], 'tid') : [];
    if (!in_array($_GET['TID'] ?? '', $own, true)) throw new RuntimeException('unknown', 404);
    return agent('GET', "/orders/$_GET[TID]?wait=$wait");
}
// While the order can be paid, its page has the button, and a policy for the bank's script; /return waits for what became of it.
function order_state(array $say, ?string $customer, string $path): void {
    $order = own_order($customer, $path === '/return' ? WAIT_S : 0);
    [$to, $next] = in_array('deliver', $order['can'], true) ? ['/download', 'download'] : ($order['final'] ? ['/', 'again'] : ['/return', 'look']);
    $ways = ($pay = $order['checkout'] ?? []) ? fill('pay', ['tid' => $order['tid'], 'program' => near('order.js')] + $pay + $say) : '';
    $shown = ['text' => $say['texts'][$order['state']], 'what' => "$order[text] × {$order['lines'][0]['quantity']}", 'ways' => $ways,
        'paid' => won($say, $order['amount']), 'path' => $to, 'next' => $say[$next], 'final' => json_encode($order['final'])];
    $policy = $pay ? '; script-src ' . hashed('order.js') . " $pay[script]; connect-src 'self'" : '';
    page($say, $say['states'][$order['state']], fill('state', $shown + $order + $say), $policy);
}
// The button's relay: what the payment window says goes to the agent as it is, and the answer back as it is.
function relay(array $say, ?string $customer, string $path): void {
    [$order, $what] = [own_order($customer), substr($path, strlen('/relay'))];
    $answer = $what ? agent('POST', "/orders/$order[tid]$what", file_get_contents('php://input', length: BODY_MAX)) : $order['checkout'] ?? null;
    header('Content-Type: application/json');
    echo json_encode($answer ?? throw new RuntimeException('over', 409), JSON_THROW_ON_ERROR);
}
function download(array $say, ?string $customer): void {
    if (!in_array('deliver', own_order($customer)['can'], true)) throw new RuntimeException('unpaid', 403);
    foreach (['Type: text/plain; charset=utf-8', 'Disposition: attachment; filename="arirang.txt"'] as $head) header("Content-$head");
    echo $say['goods'];
}

// Standard Webhooks: the signature is over id, time and body; what is older than five minutes is somebody's copy.
function signed(string $body): bool {
    [$id, $at, $given] = array_map(fn ($name) => $_SERVER["HTTP_WEBHOOK_$name"] ?? '', ['ID', 'TIMESTAMP', 'SIGNATURE']);
    $mac = fn ($secret) => 'v1,' . base64_encode(hash_hmac('sha256', "$id.$at.$body", base64_decode(substr($secret, strlen('whsec_'))), true));
    $right = array_map($mac, explode("\n", trim(file_get_contents(HANBIT_KEYS . '/callbacks/shop.secret'))));
    $matches = fn ($one) => array_filter($right, fn ($mac) => hash_equals($mac, $one));
    return abs(time() - (int) $at) <= 300 && array_filter(explode(' ', $given), $matches);
}
// The stock is what no order holds. The book has each order once, with the last event about it: what comes twice changes nothing.
function call_back(): void {
    if (!signed($body = file_get_contents('php://input', length: BODY_MAX))) throw new RuntimeException('unreadable', 401);
    ['type' => $type, 'data' => $data] = $event = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
    flock($lock = fopen(SHOP_BOOK . '.lock', 'c'), LOCK_EX); // until this request ends
    $book = is_file(SHOP_BOOK) ? json_decode(file_get_contents(SHOP_BOOK), true, 512, JSON_THROW_ON_ERROR) : [];
    $held = array_sum(array_map(fn ($one) => in_array($one['state'], ['held', 'settled'], true) ? $one['units'] : 0, $book));
    [$asks, $tid, $units, $sequence] = [$type === 'order.confirm', $data['tid'] ?? '', $data['lines'][0]['quantity'] ?? 0, $event['sequence'] ?? 0];
    $news = $asks ? !isset($book[$tid]) && $held + $units <= SHOP_STOCK : $tid && $sequence > ($book[$tid]['sequence'] ?? -1);
    if ($news) $book[$tid] = ['units' => $units, 'state' => $asks ? 'held' : $data['state'], 'sequence' => $sequence];
    if ($news) file_put_contents(SHOP_BOOK . '.new', json_encode($book)) && rename(SHOP_BOOK . '.new', SHOP_BOOK);
    $no = ['confirm' => false, 'message' => array_column(WORDS, 'soldOut', 'lang')];
    if ($asks) echo json_encode(($book[$tid]['state'] ?? '') === 'held' ? ['confirm' => true] : $no);
}
// Staff cancel with their token: before the payment nothing is taken, after it the money goes back. Only `confirmed` is a fact.
function cancel(): void {
    $token = is_file(SHOP_STAFF) ? trim(file_get_contents(SHOP_STAFF)) : '';
    if (!$token || !hash_equals("Bearer $token", $_SERVER['HTTP_AUTHORIZATION'] ?? '')) throw new RuntimeException('unreadable', 401);
    $tid = text($_GET['TID'] ?? '', '/^[\w-]{22,64}$/D') ?? throw new RuntimeException('unknown', 404);
    echo agent('POST', "/orders/$tid/cancellations", '{"reason": "by the shop", "goods": false}', "cancel.$tid")['cancellation']['state'], "\n";
}
const ROUTES = ['GET /' => 'order_page', 'POST /orders' => 'place_order', 'GET /order' => 'order_state', 'GET /return' => 'order_state',
    'GET /download' => 'download', 'GET /relay' => 'relay', 'POST /relay/sessions' => 'relay', 'POST /relay/purchases' => 'relay',
    'POST /hanbit' => 'call_back', 'POST /staff/cancel' => 'cancel'];
$asked = [$_GET['lang'] ?? '', $_COOKIE['lang'] ?? '', substr($_SERVER['HTTP_ACCEPT_LANGUAGE'] ?? '', 0, 2), 'ko'];
[$lang] = array_values(array_filter($asked, fn ($one) => is_string($one) && isset(WORDS[$one])));
[$say, $customer, $path] = [WORDS[$lang], text($_COOKIE['customer'] ?? '', CODE), strtok($_SERVER['REQUEST_URI'], '?')];
if (preg_match('~^/hanbit/([\w-]+)(.*)~', $path, $found)) [$_GET['TID'], $path] = [$found[1], "/relay$found[2]"];
foreach (['Cache-Control: no-store', 'X-Content-Type-Options: nosniff'] as $head) header($head);
try {
    (ROUTES["$_SERVER[REQUEST_METHOD] $path"] ?? throw new RuntimeException('unknown', 404))($say, $customer, $path);
} catch (RuntimeException $refusal) { // its code is the HTTP status, its message names the words
    header('Content-Type: text/html; charset=utf-8', true, $refusal->getCode());
    page($say, $say['errors']['title'], "<p>{$say['errors'][$refusal->getMessage()]}");
}
