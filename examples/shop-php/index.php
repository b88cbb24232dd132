<?php // A whole shop on the merchant's agent, with Debian's php-cli alone: order page, payment, delivery, call-backs, stock, staff.
//   HANBIT_KEYS=./shop-keys PHP_CLI_SERVER_WORKERS=4 php -S 127.0.0.1:3000 index.php; several workers, because one that waits for an outcome
//   answers no call-back meanwhile. Then open http://shop.localhost:3000; docs/guide/merchant.md sets it up.
ini_set('display_errors', '0'); // what goes wrong is written to the log, not into a page
const PRICE = 1200, WAIT_S = 10, BODY_MAX = 262144, CODE = '/^[\w-]{20}$/D', COOKIE = ['path' => '/', 'httponly' => true, 'samesite' => 'Lax'];
foreach (['HANBIT_KEYS' => 'shop-keys', 'HANBIT_AGENT' => 'http://127.0.0.1:8405', 'SHOP_URL' => 'http://shop.localhost:3000',
    'SHOP_BOOK' => 'shop-book.json', 'SHOP_STAFF' => 'staff.token', 'SHOP_STOCK' => '20'] as $name => $usual) define($name, getenv()[$name] ?? $usual);
define('STYLE', file_get_contents(__DIR__ . '/../shop.css'));
define('WORDS', json_decode(file_get_contents(__DIR__ . '/../words.json'), true));

// The agent's API. A write carries a key of its own, so that sending it once more after a lost answer does nothing twice.
function agent(string $method, string $path, array $body = [], string $key = '', int $tries = 3): array {
    $headers = ['Authorization: Bearer ' . trim(file_get_contents(HANBIT_KEYS . '/agent.token')), 'Content-Type: application/json',
        "Idempotency-Key: $key"];
    $http = ['method' => $method, 'header' => $headers, 'content' => $body ? json_encode($body, JSON_THROW_ON_ERROR) : '',
        'timeout' => WAIT_S + 5, 'ignore_errors' => true, 'follow_location' => 0];
    $answer = @file_get_contents(HANBIT_AGENT . $path, false, stream_context_create(['http' => $http]));
    $heads = $answer === false ? "HTTP/1.1 503\nRetry-After: 1" : implode("\n", $http_response_header);
    $status = (int) substr($heads, strlen('HTTP/1.1 '), 3);
    if ($status < 300) return json_decode($answer, true, 512, JSON_THROW_ON_ERROR);
    error_log("$method $path: " . ($answer ?: 'no answer'));
    if ($tries === 1 || !preg_match('~^Retry-After:~mi', $heads)) throw new RuntimeException('unavailable', $status);
    sleep(1);
    return agent($method, $path, $body, $key, $tries - 1);
}

function e(mixed $all): mixed { return is_array($all) ? array_map('e', $all) : htmlspecialchars((string) $all, ENT_QUOTES | ENT_SUBSTITUTE); }
function text(mixed $value, string $form): ?string { return is_string($value) && preg_match($form, $value) ? $value : null; }
function code(): string { return strtr(base64_encode(random_bytes(15)), '+/', '-_'); }
function won(array $say, string|int $amount): string { return str_replace('{}', number_format((int) $amount), $say['won']); }

// What goes into a page is escaped already: $say and every order come through e().
function page(array $say, string $title, string $content): void {
    echo "<!doctype html><html lang='$say[lang]'><meta charset='utf-8'><title>$title</title>
        <meta name='viewport' content='width=device-width'><style>", STYLE, "</style>
        <header><a href='/'>$say[shop]</a> <a href='/?lang=$say[other]' lang='$say[other]'>$say[otherName]</a></header>
        <main><h1>$title</h1>$content</main></html>";
}
function order_page(array $say, ?string $customer): void {
    foreach (['customer' => $customer ?? code(), 'lang' => $say['lang']] as $name => $value) setcookie($name, $value, COOKIE);
    page($say, $say['order'], "<form method='post' action='/orders'><input type='hidden' name='key' value='" . code() . "'>
        <dl><dt>$say[itemLabel]<dd>$say[item]<dt><label for='quantity'>$say[quantity]</label>
        <dd><select id='quantity' name='quantity'><option>1<option>2<option>3</select><dt>$say[price]<dd>" . won($say, PRICE) . "</dl>
        <p>$say[note]<p><button>$say[ok]</button> <a href='/'>$say[cancel]</a></form>");
}

// A second way to pay begins here: the order stays the same, only what the browser is told to do next is another.
function place_order(array $say, ?string $customer): void {
    [$quantity, $key, $lang] = [text($_POST['quantity'] ?? '', '/^[1-3]$/D'), text($_POST['key'] ?? '', CODE), $say['lang']];
    if (!$customer || !$quantity || !$key) throw new RuntimeException('unreadable', 400);
    $order = ['lines' => [['item' => 'arirang', 'quantity' => (int) $quantity, 'price_minor' => PRICE]], 'amount' => (string) ($quantity * PRICE),
        'currency' => 'KRW', 'text' => WORDS[$lang]['item'], 'language' => $lang, 'owner' => $customer, 'return_url' => SHOP_URL . '/return'];
    header('Location: ' . agent('POST', '/orders', $order, "$customer.$key.$quantity.$lang")['redirect'], true, 303);
}

// An address proves nothing: the order must be this browser's own, and the agent alone knows what became of it.
function own_order(?string $customer, int $wait = 0): array {
    $own = $customer ? array_column(agent('GET', "/orders?limit=100&owner=$customer")['orders'], 'tid') : [];
    if (!in_array($_GET['TID'] ?? '', $own, true)) throw new RuntimeException('unknown', 404);
    return agent('GET', "/orders/$_GET[TID]?wait=$wait");
}
function order_state(array $say, ?string $customer): void {
    $order = e(own_order($customer, WAIT_S));
    [$path, $next] = in_array('deliver', $order['can'], true) ? ['/download', 'download'] : ($order['final'] ? ['/', 'again'] : ['/return', 'look']);
    page($say, $say['states'][$order['state']], "<p id='state' data-state='$order[state]'>{$say['texts'][$order['state']]}
        <dl><dt>$say[itemLabel]<dd>$order[text] × {$order['lines'][0]['quantity']}<dt>$say[price]<dd>" . won($say, $order['amount']) . "
        <dt>$say[number]<dd>$order[tid]</dl><p><a class='button' href='$path?TID=$order[tid]'>$say[$next]</a>");
}
function download(array $say, ?string $customer): void {
    if (!in_array('deliver', own_order($customer)['can'], true)) throw new RuntimeException('unpaid', 403);
    foreach (['Type: text/plain; charset=utf-8', 'Disposition: attachment; filename="arirang.txt"'] as $head) header("Content-$head");
    echo WORDS[$say['lang']]['goods'];
}

// Standard Webhooks: the signature is over id, time and body; what is older than five minutes is somebody's copy.
function signed(string $body): bool {
    [$id, $at, $given] = array_map(fn ($name) => $_SERVER["HTTP_WEBHOOK_$name"] ?? '', ['ID', 'TIMESTAMP', 'SIGNATURE']);
    foreach (explode("\n", trim(file_get_contents(HANBIT_KEYS . '/callbacks/shop.secret'))) as $secret) {
        $mac = hash_hmac('sha256', "$id.$at.$body", base64_decode(substr($secret, strlen('whsec_'))), true);
        foreach (explode(' ', $given) as $one) if (hash_equals('v1,' . base64_encode($mac), $one)) return abs(time() - (int) $at) <= 300;
    }
    return false;
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
    $yes = ($book[$tid]['state'] ?? '') === 'held';
    if ($asks) echo json_encode(['confirm' => $yes] + ($yes ? [] : ['message' => array_column(WORDS, 'soldOut', 'lang')]));
}

// Staff cancel with their token: before the payment nothing is taken, after it the money goes back. Only `confirmed` is a fact.
function cancel(): void {
    $token = is_file(SHOP_STAFF) ? trim(file_get_contents(SHOP_STAFF)) : '';
    if (!$token || !hash_equals("Bearer $token", $_SERVER['HTTP_AUTHORIZATION'] ?? '')) throw new RuntimeException('unreadable', 401);
    $tid = text($_GET['TID'] ?? '', '/^[\w-]{22,64}$/D') ?? throw new RuntimeException('unknown', 404);
    echo agent('POST', "/orders/$tid/cancellations", ['reason' => 'by the shop', 'goods' => false], "cancel.$tid")['cancellation']['state'], "\n";
}
const ROUTES = ['GET /' => 'order_page', 'POST /orders' => 'place_order', 'GET /return' => 'order_state', 'GET /download' => 'download',
    'POST /hanbit' => 'call_back', 'POST /staff/cancel' => 'cancel'];
$asked = [$_GET['lang'] ?? '', $_COOKIE['lang'] ?? '', substr($_SERVER['HTTP_ACCEPT_LANGUAGE'] ?? '', 0, 2), 'ko'];
[$lang] = array_values(array_filter($asked, fn ($one) => is_string($one) && isset(WORDS[$one])));
[$say, $customer, $path] = [e(WORDS[$lang]), text($_COOKIE['customer'] ?? '', CODE), strtok($_SERVER['REQUEST_URI'], '?')];
$policy = "default-src 'none'; style-src 'sha256-" . base64_encode(hash('sha256', STYLE, true)) . "'; base-uri 'none'; frame-ancestors 'none'";
foreach (["Content-Security-Policy: $policy", 'Cache-Control: no-store', 'X-Content-Type-Options: nosniff'] as $head) header($head);
try {
    (ROUTES["$_SERVER[REQUEST_METHOD] $path"] ?? throw new RuntimeException('unknown', 404))($say, $customer);
} catch (RuntimeException $refusal) { // its code is the HTTP status, its message names the words
    http_response_code($refusal->getCode());
    page($say, $say['errors']['title'], "<p>{$say['errors'][$refusal->getMessage()]}");
}
