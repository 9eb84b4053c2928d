# AWS::Signature4: signs requests of LWP, in a header or in the URL.
use strict;
use warnings;
use AWS::Signature4;
use HTTP::Request::Common;
use LWP::UserAgent;

# It takes service and region from the host's name, so the broker goes by AWS's name here: it must be one of
# `[listen] names`, and the name must lead to it (here by a proxy, else in DNS).
my $endpoint = "http://sts.$ENV{AWS_REGION}.amazonaws.com";
my $agent = LWP::UserAgent->new;
$agent->proxy(http => $ENV{BREVET_ENDPOINT});

sub signer { AWS::Signature4->new(-access_key => $_[0], -secret_key => $_[1]) }

sub result { my $text = shift; $text =~ /arn:aws:/ ? "ok" : $text =~ /<Code>(\w+)/ ? $1 : substr($text, 0, 200) }

sub post {
    my ($id, $secret, $token, @form) = @_;
    my $request = POST("$endpoint/", [Version => '2011-06-15', @form]);
    $request->header('X-Amz-Security-Token' => $token) if $token;
    signer($id, $secret)->sign($request);
    return $agent->request($request)->decoded_content;
}

my @keys = (@ENV{qw(AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY)}, undef);
print "version\t$AWS::Signature4::VERSION\n";
print "GetCallerIdentity\t", result(post(@keys, Action => 'GetCallerIdentity')), "\n";
my $answer = post(@keys, Action => 'AssumeRole', RoleArn => $ENV{BREVET_ROLE}, RoleSessionName => 'perl');
my @session = map { $answer =~ m{<$_>(.*?)</$_>} } qw(AccessKeyId SecretAccessKey SessionToken);
print "AssumeRole\t", @session == 3 ? result(post(@session, Action => 'GetCallerIdentity')) : result($answer), "\n";
my $get = GET("$endpoint/?Action=GetCallerIdentity&Version=2011-06-15");
my $url = signer(@keys)->signed_url($get, 60);
print "GetCallerIdentity, presigned\t", result($agent->get($url)->decoded_content), "\n";
