# Net::Amazon::Signature::V4.
use strict;
use warnings;
use HTTP::Request::Common;
use LWP::UserAgent;
use Net::Amazon::Signature::V4;
use POSIX qw(strftime);

my ($endpoint, $region) = @ENV{qw(BREVET_ENDPOINT AWS_REGION)};
my $agent = LWP::UserAgent->new;

sub result { my $text = shift; $text =~ /arn:aws:/ ? "ok" : $text =~ /<Code>(\w+)/ ? $1 : substr($text, 0, 200) }

sub post {
    my ($id, $secret, $token, @form) = @_;
    my $request = POST("$endpoint/", [Version => '2011-06-15', @form]);
    $request->header(Host => $request->uri->host_port);
    $request->header('X-Amz-Date' => strftime('%Y%m%dT%H%M%SZ', gmtime));
    $request->header('X-Amz-Security-Token' => $token) if $token;
    return $agent->request(Net::Amazon::Signature::V4->new($id, $secret, $region, 'sts')->sign($request))->decoded_content;
}

my @keys = (@ENV{qw(AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY)}, undef);
print "version\t$Net::Amazon::Signature::V4::VERSION\n";
print "GetCallerIdentity\t", result(post(@keys, Action => 'GetCallerIdentity')), "\n";
my $answer = post(@keys, Action => 'AssumeRole', RoleArn => $ENV{BREVET_ROLE}, RoleSessionName => 'perl');
my @session = map { $answer =~ m{<$_>(.*?)</$_>} } qw(AccessKeyId SecretAccessKey SessionToken);
print "AssumeRole\t", @session == 3 ? result(post(@session, Action => 'GetCallerIdentity')) : result($answer), "\n";
